"""`hoi bench`: how good every part is, beside what a user would pick instead, on the same frames in the same run."""
