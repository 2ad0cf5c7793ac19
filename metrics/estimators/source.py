"""Which network answers a metric's question: the user's file, or one trained on the data set's own truth."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metrics.estimators.network import Answers
from metrics.estimators.training import estimator_for
from metrics.evaluation import Evaluation
from metrics.names import Request
from metrics.types import MetricError


def estimator_of(evaluation: Evaluation, request: Request, question: str) -> Callable[[Tensor], Answers]:
    """What answers "depth", "pose", "mask" or "factors" about uint8 pictures.

    Raises DetectorError where the user's file is missing, MetricError where the data set has no truth to learn from.
    """
    if request.source != "trained":
        detector = evaluation.detector(question)
        return lambda images: answers_of_file(question, detector.features(images))
    dataset = evaluation.real_dataset(full=True)
    with evaluation.stage("estimator"):
        trained = estimator_for(dataset, evaluation.store, evaluation.device, progress=evaluation.progress)
    if question not in trained.questions:
        raise MetricError(
            f"{request.name}: {dataset.archive.path} has no ground truth beside it to learn {question} from; "
            "take data made by dataset_preprocessing.synthetic, or ask without _trained and give an estimator"
        )
    evaluation.used["estimator"] = trained.describe()
    return trained


def embedder_of(evaluation: Evaluation, request: Request) -> Callable[[Tensor], Tensor]:
    """What turns uint8 pictures into rows that are alike for the same object or person."""
    if request.source == "trained":
        estimator = estimator_of(evaluation, request, "factors")
        return lambda images: estimator(images).factors
    return evaluation.detector(request.source or "embedder").features


def answers_of_file(question: str, answer: Tensor) -> Answers:
    """The answer of a user's network in the place where metrics look for it.

    Depth maps `n 1 h w` hold 0 where there is nothing; masks `n 1 h w` lie in [0, 1]; poses are rotations `n 3 3` from
    camera to world.
    """
    nothing = answer.new_zeros(len(answer), 0)
    if question == "depth":
        return Answers(nothing, answer, (answer > 0).float() * 2 - 1, nothing)
    if question == "mask":
        return Answers(nothing, nothing, torch.logit(answer.float(), eps=1e-6), nothing)
    return Answers(answer, nothing, nothing, nothing)
