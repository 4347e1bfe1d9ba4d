"""What stands for the exports of seven models where a test is about what happens around them."""

from contract.release import ModelFiles
from contract.repository import sha256
from training.exporting.staging import ModelJob, export_one


def stand_in(jobs: list[ModelJob], _: int) -> dict[str, ModelFiles]:
    """In place of an export, for tests of what happens around it: only the user encoder is real."""
    for job in jobs:
        if job.model != "user_encoder":
            job.into.mkdir(parents=True)
            (job.into / "model.onnx").write_text(job.model)
    real = {job.model: export_one(job)[0] for job in jobs if job.model == "user_encoder"}
    return real | {
        job.model: ModelFiles({"model.onnx": sha256(job.into / "model.onnx")}, 0.0, 1e-4, job.fingerprint)
        for job in jobs
        if job.model not in real
    }
