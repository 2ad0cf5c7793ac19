"""Which network answers a metric's question: the user's file, or one trained on the data set's own truth."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metrics.estimators.network import Answers
from metrics.estimators.training import Trained, estimator_for
from metrics.estimators.truth import Truth
from metrics.evaluation import Evaluation
from metrics.names import Request
from metrics.types import GeneratorLike, MetricError
from training.dataset import ImageDataset


def check_truth(request: Request, generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Raises MetricError where an estimator is to be trained on truth that the data set does not have."""
    if request.source == "trained" and Truth.beside(dataset) is None:
        raise MetricError(
            f"{dataset.archive.path} has no ground truth beside it to learn {request.family} from; take data made by "
            "dataset_preprocessing.synthetic, or a metric without _trained"
        )


def estimator_of(evaluation: Evaluation, request: Request, question: str) -> Callable[[Tensor], Answers]:
    """What answers "depth", "pose" or "mask" about uint8 pictures.

    Raises MetricError where the user's file is missing.
    """
    if request.source == "trained":
        return trained_for(evaluation)
    detector = evaluation.detector(question)
    return lambda images: answers_of_file(question, detector.features(images))


def trained_for(evaluation: Evaluation) -> Trained:
    """The estimator that was trained, or is now, on the data set and the truth beside it."""
    dataset = evaluation.real_dataset(full=True)
    with evaluation.stage("estimator"):
        trained = estimator_for(dataset, evaluation.store, evaluation.device, evaluation.recipe, evaluation.progress)
    evaluation.used["estimator"] = trained.describe()
    return trained


def embedder_of(evaluation: Evaluation, request: Request) -> Callable[[Tensor], Tensor]:
    """What turns uint8 pictures into rows that are alike for the same object or person."""
    if request.source == "trained":
        estimator = trained_for(evaluation)
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
