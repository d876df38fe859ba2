"""What each command does, put together from the stages; the scripts and ``diffgen`` call these."""
