"""Things with weights."""
