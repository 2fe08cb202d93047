"""Every question to the region goes through here: what is asked, who may see what, rows, coverage, audit
(D20).
"""
