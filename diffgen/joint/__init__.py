"""UniCon (Li et al. 2025): images and their conditions drawn together by one frozen model."""

from diffgen.joint.adapter import JointAdapter
from diffgen.joint.course import Course
from diffgen.joint.load import load_adapter
from diffgen.joint.pipeline import Given, JointOutput, JointPipeline

__all__ = ["Course", "Given", "JointAdapter", "JointOutput", "JointPipeline", "load_adapter"]
