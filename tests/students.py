"""A tiny distilled model as a pipeline."""

from diffgen import DiffGenPipeline
from diffgen.config.process import DDPMConfig, FlowConfig, ProcessConfig
from diffgen.sampling.schedulers import build_scheduler
from tests.tiny import NAMES, build

CHAIN = DDPMConfig()


def student(
    process: ProcessConfig | None = None, shift: float = 1.0, steps=(1, 2, 4), **options
) -> DiffGenPipeline:
    """As ``tiny.build``, of a flow's x0 or a chain's v, said to be distilled to ``steps``."""
    process = FlowConfig() if process is None else process
    prediction = "x0" if process.kind == "flow" else "v"
    pipe = DiffGenPipeline(
        build(**{"prediction": prediction, **options}).transformer,
        build_scheduler("lcm", process=process),
        NAMES,
        distilled={"steps": steps, "timestep_shift": shift},
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
