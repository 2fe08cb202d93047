"""Regions as data, synthetic patients and images, the demo region; the only place that knows both sides."""
