"""From nothing to soft thoughts, and whether they say anything.

1. a model that knows short answers learns to read slots, in which nothing, noise or hints stand,
and another task beside it; frozen, it is the backbone;  2. a frozen assistant is asked the first
steps of problems that are too long for the backbone, and a projector alone learns to put its states
into the slots;  3. all that could do the same without saying anything stands beside it: no slots,
zero vectors, noise, trained constants, the states of another problem; and what says it otherwise:
the assistant's answer as a token, LoRA.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from suffice.backends.nano.backend import shipped_folder
from suffice.backends.nano.vocabulary import END, Vocabulary
from suffice.core.errors import ConfigError
from suffice.core.files import write_bytes, write_json
from suffice.recipes.modes.evaluate import Estimate, wilson
from suffice.recipes.modes.folder import load_routed, save_routed
from suffice.tasks.puzzles import Problem
from suffice.training.run_state import RunState, seeded
from suffice.training.settings import plain, refuse_another
from suffice.training.soft_thoughts.arms import (
    ARMS,
    MORE_ARMS,
    Arm,
    Assistant,
    Constants,
    Projector,
    add_low_rank,
)
from suffice.training.soft_thoughts.contrast import (
    Thoughts,
    contrasted_loss,
    right_by_vote,
)
from suffice.training.soft_thoughts.slots import (
    HELD_OUT_TASK,
    TARGET,
    Asked,
    answer_logits,
    answer_loss,
    asked,
    first_steps,
    hinted_slots,
    problems,
    random_slots,
    right,
)
from suffice.training.stretch import Stretch, Tell, run_stretch

RESULT = "soft-thoughts.json"
KNOWN_STEPS = (1, 2)  # by heart
HELD_OUT_STEPS = (1,)
HINTED_STEPS = (2, 3, 4)
FITTED_ON = 1000  # problems
TARGET_STEPS = (3, 4)  # too long to answer at once


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftThoughtTraining:
    """Everything that decides a run.

    `assistant`, and `start`, which becomes the backbone, are folders of `suffice train nano`; None
    is the model that ships. `hinted` and `noisy` are shares of the problems that the backbone
    learns from. `tested` problems of each length are answered. Arm `contrast` learns `thoughts`
    thoughts of each problem, with `contrast_weight` on what holds them apart, and votes.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    assistant: str | None = None
    start: str | None = None
    slots: int = 4
    hinted: float = 0.4
    noisy: float = 0.3
    backbone: Stretch = field(
        default_factory=lambda: Stretch(steps=500, batch=128, learning_rate=2e-3)
    )
    after: Stretch = field(
        default_factory=lambda: Stretch(steps=250, batch=128, learning_rate=1e-2)
    )
    lora_rate: float = 1e-3
    lora_rank: int = 8
    thoughts: int = 4
    contrast_weight: float = 0.1
    arms: tuple[Arm, ...] = ARMS
    tested: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        for arm in self.arms:
            if arm not in (*ARMS, *MORE_ARMS):
                raise ConfigError(f"arm {arm!r} must be one of {', '.join((*ARMS, *MORE_ARMS))}")
        for swapped, other in (("swapped", "learned"), ("fitted-swapped", "fitted")):
            if swapped in self.arms and other not in self.arms:
                raise ConfigError(f"arm {swapped} takes the projector of arm {other}: name both")
        if min(self.slots, self.lora_rank, self.tested - 1) < 1 or self.slots > 4:
            raise ConfigError("slots must be 1 to 4, lora_rank 1 or more and tested 2 or more")
        if not 0 < self.hinted + self.noisy <= 1 or min(self.hinted, self.noisy) < 0:
            raise ConfigError("hinted and noisy are shares: together above 0 and at most 1")
        if not self.lora_rate > 0 or self.seed < 0:
            raise ConfigError("lora_rate must be positive and seed 0 or more")
        if self.thoughts < 2 or not self.contrast_weight >= 0:
            raise ConfigError("thoughts must be 2 or more and contrast_weight 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm: share right by steps, over the target's, and on the task that is held out."""

    arm: Arm
    parameters: int  # learned in this arm
    by_steps: dict[int, Estimate]
    target: Estimate
    held_out_task: Estimate
    right: tuple[bool, ...]  # on the target's problems: the arms answer the same ones
    held_out_right: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftThoughtResult:
    """Everything that `suffice train soft-thoughts` prints and writes.

    `assistant_right`: its own answers to what it is asked. `backbone_moved` is the largest change
    of a logit on the held-out task after all frozen arms: 0 exactly, or something was not frozen.
    """

    parameters: int
    assistant_right: Estimate
    hinted: Estimate  # the backbone with the true result of the first steps in its slots
    arms: tuple[ArmResult, ...]
    backbone_moved: float
    lora_moved: float | None


def train_soft_thoughts(
    config: SoftThoughtTraining, out: Path, *, tell: Tell = lambda _: None
) -> SoftThoughtResult:
    """Run all of it into `out`; an interrupted run goes on where it was saved."""
    refuse_another(out / RESULT, config)
    run = _Run(config, out, tell)
    run.learn_backbone()
    result = run.compare()
    write_json(out / RESULT, {"config": plain(config), **asdict(result)})
    return result


def _load(folder: str | None) -> tuple[Any, Vocabulary]:
    return load_routed(Path(folder) if folder else shipped_folder())


class _Run:
    def __init__(self, config: SoftThoughtTraining, out: Path, tell: Tell) -> None:
        self.config, self.out, self.tell = config, out, tell
        self.backbone, self.words = _load(config.start)
        self.width = int(self.backbone.config.hidden_size)
        self._end = self.words.id(END)
        model, words = _load(config.assistant)
        self.assistant = Assistant(model, words, config.slots)
        test = {n: self.problems("test", TARGET, (n,), config.tested) for n in (1, *HINTED_STEPS)}
        self.tests: dict[int, list[Problem]] = test
        self.kept = self.problems("test", HELD_OUT_TASK, HELD_OUT_STEPS, config.tested)

    def problems(self, part: str, task: str, steps: Sequence[int], count: int) -> list[Problem]:
        """Problems of this run's seed."""
        named = f"{part}/{task}/{'-'.join(map(str, steps))}"
        return problems(task, steps, count, seed=self.config.seed, part=named)

    def learn_backbone(self) -> None:
        """Short answers to two tasks; of the first also with hints, and both with noise."""
        config = self.config

        model = self.backbone

        def loss_of(step: int) -> torch.Tensor:
            batch, generator = config.backbone.batch, seeded(config.seed, "slots", step)
            hinted, noisy = round(config.hinted * batch), round(config.noisy * batch)
            plain_count = batch - hinted - noisy
            total = torch.zeros(())
            if hinted:
                of = self.problems(f"train/{step}/hinted", TARGET, HINTED_STEPS, hinted)
                slots = hinted_slots(model, of, config.slots, self.words, generator)
                rows = asked(of, self.words)
                total = total + hinted * answer_loss(model, rows, slots, self._end)
            for count, name in ((noisy, "noisy"), (plain_count, "plain")):
                if not count:
                    continue
                first = self.problems(f"train/{step}/{name}", TARGET, KNOWN_STEPS, -(-count // 2))
                other = self.problems(f"train/{step}/{name}", HELD_OUT_TASK, HELD_OUT_STEPS, count)
                of = [*first, *other][:count]
                slots = (
                    random_slots(count, config.slots, self.width, generator)
                    if name == "noisy"
                    else None
                )
                rows = asked(of, self.words)
                total = total + count * answer_loss(model, rows, slots, self._end)
            return total / batch

        self._fit(model, loss_of, config.backbone, "backbone")
        self.backbone.eval().requires_grad_(False)
        about = {"name": "suffice-soft-thoughts backbone"}
        save_routed(self.backbone, self.words, self.out / "backbone", about)

    def compare(self) -> SoftThoughtResult:
        """All arms on the same problems."""
        config, words = self.config, self.words
        kept = asked(self.kept, words)
        before = self._logits(self.backbone, kept)
        slots_of: dict[str, Any] = {}
        arms = tuple(self._arm(arm, slots_of) for arm in config.arms if arm != "lora")
        after = self._logits(self.backbone, kept)
        moved = None
        if "lora" in config.arms:
            model = self._lora()
            arms = (*arms, self._tested("lora", model, lambda of: None, model.learned))
            moved = float((self._logits(model, kept) - before).abs().max())
        target = self._target()
        said = self.assistant.answers(target)
        due = [words.id(first_steps(problem)[1]) for problem in target]
        hits = [a == b for a, b in zip(said.tolist(), due, strict=True)]
        told = hinted_slots(self.backbone, target, config.slots, words, seeded(config.seed, "told"))
        hinted = right(self.backbone, asked(target, words), told)
        return SoftThoughtResult(
            parameters=sum(weight.numel() for weight in self.backbone.parameters()),
            assistant_right=wilson(sum(hits), len(hits)),
            hinted=wilson(sum(hinted), len(hinted)), arms=arms,
            backbone_moved=float((after - before).abs().max()), lora_moved=moved,
        )  # fmt: skip

    def _logits(self, model: Any, rows: Asked) -> torch.Tensor:
        with torch.no_grad():
            return answer_logits(model, rows, None)[0]

    def _target(self) -> list[Problem]:
        return [problem for n in TARGET_STEPS for problem in self.tests[n]]

    def _arm(self, arm: Arm, slots_of: dict[str, Any]) -> ArmResult:
        config, width = self.config, self.width
        learned = 0
        if arm == "none":
            slots_of[arm] = lambda of: None
        elif arm == "zero":
            slots_of[arm] = lambda of: torch.zeros(len(of), config.slots, width)
        elif arm == "random":
            slots_of[arm] = lambda of: random_slots(
                len(of), config.slots, width, seeded(config.seed, "random")
            )
        elif arm == "text":
            slots_of[arm] = self._said
        elif arm == "constants":
            constants = Constants(config.slots, width, seed=config.seed)
            self._learn(constants, lambda of: constants(len(of)), arm)
            slots_of[arm] = lambda of: constants(len(of))
            learned = constants.vector_Nd.numel()
        elif arm == "learned":
            projector = Projector(self.assistant.width, width, seed=config.seed)
            seen = self.problems("scale", TARGET, TARGET_STEPS, 256)
            projector.scale_to(self.assistant.states(seen))
            slots_of[arm] = lambda of: projector(self.assistant.states(of))
            self._learn(projector, slots_of[arm], arm)
            learned = sum(weight.numel() for weight in projector.parameters())
            self._save_projector(projector, arm)
        elif arm == "contrast":
            several = self._contrasted()
            slots_of[arm] = lambda of: several(self.assistant.states(of))
            learned = sum(weight.numel() for weight in several.parameters())
        elif arm == "fitted":
            fitted = Projector(self.assistant.width, width, seed=config.seed)
            seen = self.problems("fit", TARGET, HINTED_STEPS, FITTED_ON)
            states = self.assistant.states(seen)
            fitted.scale_to(states)
            embed = self.backbone.get_input_embeddings().weight
            fitted.fit(states, embed[self.assistant.answers(seen)])
            slots_of[arm] = lambda of: fitted(self.assistant.states(of))
            learned = sum(weight.numel() for weight in fitted.parameters())
            self._save_projector(fitted, arm)
        else:  # another problem's states: the next one's
            of_arm = "learned" if arm == "swapped" else "fitted"
            slots_of[arm] = lambda of: slots_of[of_arm](of).roll(1, 0)
        return self._tested(arm, self.backbone, slots_of[arm], learned)

    def _contrasted(self) -> Thoughts:
        config = self.config
        module = Thoughts(
            self.assistant.width, self.width, thoughts=config.thoughts, seed=config.seed
        )
        seen = self.problems("scale", TARGET, TARGET_STEPS, 256)
        module.scale_to(self.assistant.states(seen))

        def loss_of(step: int) -> torch.Tensor:
            of = self._drawn(step)
            return contrasted_loss(
                self.backbone, asked(of, self.words), module(self.assistant.states(of)), self._end,
                weight=config.contrast_weight,
                generator=seeded(config.seed, "contrast", step),
            )  # fmt: skip

        self._fit(module, loss_of, config.after, "contrast")
        self._save_projector(module, "contrast")
        return module

    def _said(self, of: Sequence[Problem]) -> torch.Tensor:
        embed = self.backbone.get_input_embeddings().weight
        said: torch.Tensor = embed[self.assistant.answers(of)]
        return said[:, None].expand(-1, self.config.slots, -1)

    def _learn(self, module: nn.Module, slots: Callable[[Any], torch.Tensor], arm: str) -> None:
        def loss_of(step: int) -> torch.Tensor:
            of = self._drawn(step)
            return answer_loss(self.backbone, asked(of, self.words), slots(of), self._end)

        self._fit(module, loss_of, self.config.after, arm)

    def _drawn(self, step: int) -> list[Problem]:
        return self.problems(f"train/after/{step}", TARGET, TARGET_STEPS, self.config.after.batch)

    def _lora(self) -> Any:
        config = self.config
        model = copy.deepcopy(self.backbone)
        learned = add_low_rank(model, config.lora_rank, seed=config.seed)

        def loss_of(step: int) -> torch.Tensor:
            return answer_loss(model, asked(self._drawn(step), self.words), None, self._end)

        stretch = Stretch(
            steps=config.after.steps, batch=config.after.batch, learning_rate=config.lora_rate
        )
        self._fit(nn.ParameterList(learned), loss_of, stretch, "lora")
        model.learned = sum(weight.numel() for weight in learned)
        return model.eval()

    def _tested(self, arm: Arm, model: Any, slots: Callable[[Any], Any], learned: int) -> ArmResult:
        hits = {}
        for steps, of in self.tests.items():
            if steps == 1 and arm not in ("none", "lora"):
                continue  # nothing stands before the last step of one
            with torch.no_grad():
                filled = slots(of)
            several = filled is not None and filled.dim() == 4  # K thoughts of each problem
            judged = right_by_vote if several else right
            hits[steps] = judged(model, asked(of, self.words), filled)
        target = [hit for n in TARGET_STEPS for hit in hits[n]]
        kept = right(model, asked(self.kept, self.words), None)
        result = ArmResult(
            arm=arm, parameters=learned,
            by_steps={n: wilson(sum(h), len(h)) for n, h in hits.items()},
            target=wilson(sum(target), len(target)),
            held_out_task=wilson(sum(kept), len(kept)),
            right=tuple(target), held_out_right=tuple(kept),
        )  # fmt: skip
        self.tell({"phase": f"arm {arm}", "target": result.target.mean,
                   "held_out_task": result.held_out_task.mean})  # fmt: skip
        return result

    def _save_projector(self, projector: Projector, arm: Arm) -> None:
        buffer = io.BytesIO()
        torch.save(projector.state_dict(), buffer)
        write_bytes(self.out / f"projector-{arm}.pt", buffer.getvalue())

    def _fit(
        self, learned: nn.Module, loss_of: Callable[[int], torch.Tensor], stretch: Stretch,
        phase: str,
    ) -> None:  # fmt: skip
        names = ("start", "slots", "seed", "hinted", "noisy", "assistant", "lora_rank")
        state = RunState(
            path=self.out / "work" / f"{phase}.pt",
            config={
                "phase": phase, "stretch": asdict(stretch),
                "of": {name: getattr(self.config, name) for name in names},
                "backbone": asdict(self.config.backbone),
            },
            modules={"learned": learned}, optimisers={},
        )  # fmt: skip
        learned.train()
        run_stretch(learned, loss_of, stretch, state, phase=phase, tell=self.tell)
        learned.eval()
