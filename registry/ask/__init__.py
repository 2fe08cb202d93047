"""Every question to the region goes through here (D20).

What is asked, who may see what, rows, coverage, audit.
"""
