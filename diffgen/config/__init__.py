"""Configuration: one file a stage, pydantic models, no torch anywhere."""
