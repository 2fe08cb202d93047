"""From objects to a StudyRecord and a KOS manifest, and back."""
