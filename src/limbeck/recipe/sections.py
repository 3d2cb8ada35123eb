"""The sections of a recipe: their keys, and what may stand there.

    name: gan-fashion-mnist
    seed: 0                   # the first seed
    seeds: 5                  # how many runs of student and control; 1
    data: {class_path: FashionMNIST, init_args: {size: 32}}
    task: {class_path: Generation, init_args: {latent: [64]}}
    features: {...}           # an arm with a name, trained on the data; or a ready {class_path: ...}
    method: {class_path: Gan, init_args: {critic_steps: 2}}
    networks: {discriminator: {class_path: DcganDiscriminator}}     # what the method needs besides the student
    augmentation: {class_path: Flip}
    weighting: Scheduled      # how the losses of one update become one number
    teacher: {network: ..., training: ...}                          # or {network: ..., load: file}: not trained
                              # with both it starts from the file; new_layers: [fc] do not, and are drawn anew
    student: {network: ..., training: ..., weights: ..., start_from_teacher: [discriminator]}
                              # or a part of it that the teacher's network has too: [student.encoder]
    students: {x18: {...}, x48: {...}}                              # several, each a change of `student`
                              # taught_by: x18 makes an earlier student the teacher: an assistant (Mirzadeh et al. 2020)
                              # control: x18 measures it against that student instead of its own control
    control: true             # the student without teacher; false, or its own training, method and weights
    baselines: {...}          # networks without training, by name
    settings_tried: {student: 8, control: 8}

What an arm says is read once its sections are merged, so nothing has to stand in any of them; what is missing in the
end is told by the reader. A section takes no key that is not here, and null is as good as leaving a key out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic_core import CoreSchema
from torch import nn
from torch.optim import Optimizer

from limbeck.data.base import Augmentation, Data
from limbeck.methods.base import Method
from limbeck.metrics.base import FeatureExtractor
from limbeck.recipe.catalogue import arguments, network_arguments
from limbeck.recipe.marks import Expected, Json, Later
from limbeck.recipe.parts import Mistakes
from limbeck.recipe.signatures import AsArgument, Draft, PartOf, argument
from limbeck.tasks.base import Task
from limbeck.training.options import Training
from limbeck.weighting.base import Weighting
from limbeck.weighting.scheduled import Scheduled


def from_the_player(cls: type) -> Collection[str]:
    """Return the arguments that an optimiser gets from the player that it moves."""
    return ("params",)


def from_the_arm(cls: type) -> Collection[str]:
    """Return the arguments that a weighting gets from the arm and its method."""
    return ("weights", "defaults")


NAMES = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAMES), Expected("a name of letters, digits, '-', '_' and '.'")]
Text = Annotated[str, AsArgument()]
Names = Annotated[tuple[str, ...], AsArgument()]
Number = Annotated[float, AsArgument()]
Seed = Annotated[
    int, AsArgument(), Field(ge=0, json_schema_extra={"minimum": 0}), Expected("a whole number of at least 0")
]
Count = Annotated[
    int, AsArgument(), Field(ge=1, json_schema_extra={"minimum": 1}), Expected("a whole number of at least 1")
]
AnyNetwork = Annotated[Any, PartOf((nn.Module,), change=True)]
AnyMethod = Annotated[Any, PartOf((Method,), network_arguments, change=True)]
AnyAugmentation = Annotated[Any, PartOf((Augmentation,), change=True)]
AnyWeighting = Annotated[Any, PartOf((Weighting,), from_the_arm, change=True)]
AnyOptimizer = Annotated[Any, PartOf((Optimizer,), from_the_player, change=True)]

NUMBER: TypeAdapter[float] = TypeAdapter(Number)
NAME: TypeAdapter[str] = TypeAdapter(Name)


class Section(BaseModel):
    """A section, of which all that fits is read, and all that does not is noted."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return its keys as they are written."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def read(cls, value: Any, key: str, mistakes: Mistakes) -> Self:
        """Return the section; in place of what does not fit stands its default."""

        def note(name: str, error: ValidationError) -> None:
            name = cls.model_fields[name].alias or name
            mistakes.refuse(f"{key}.{name}" if key else name, error)

        return cls.model_validate(mistakes.section(value, key, cls.names()), context=note)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        found = handler.resolve_ref_schema(handler(schema))
        for name, each in found["properties"].items():
            told = {key: each.pop(key) for key in ("description", "default") if key in each}
            found["properties"][name] = {"anyOf": [each, {"type": "null"}]} | told
        return found

    @field_validator("*", mode="wrap")
    @classmethod
    def _noted(cls, value: Any, read: Callable[[Any], Any], info: ValidationInfo) -> Any:
        try:
            return read(value)
        except ValidationError as error:
            assert info.field_name is not None
            info.context(info.field_name, error)  # type: ignore[misc]
            return cls.model_fields[info.field_name].default


class WeightSection(Section):
    """A weight that holds during a part of the training."""

    weight: Number | None = None
    """The weight once it is fully on, at least 0."""
    start: Number = Field(0.0, alias="from")
    """Where it begins, as a fraction of the player's updates in [0, 1)."""
    until: Number = 1.0
    """Where it ends, in (from, 1]; 1 is the end of the training."""
    ramp: Number = 0.0
    """Fraction of the training over which it rises linearly from 0."""


Weight = Number | WeightSection


class _Optimizers(Section):
    optimizers: Annotated[Any, Later(dict[str, AnyOptimizer])] = {}
    """An optimiser for each player."""


_OPTIONS: dict[str, Any] = {
    option.name: (argument(option.annotation), Field(option.default, description=option.doc))
    for option in arguments(Training).values()
    if option.name not in _Optimizers.model_fields
}
TrainingSection = create_model("TrainingSection", __base__=_Optimizers, __doc__="Options of a training.", **_OPTIONS)


class TrainedSection(Section):
    """A network that is trained."""

    network: AnyNetwork = Field(None, validate_default=True)
    """The network that the arm is about."""
    training: Annotated[Any, Later(TrainingSection)] = None
    """How long, and in which way."""
    weights: Annotated[Any, Later(dict[str, Weight])] = {}
    """Weights of losses, by "player.loss"; what is not named has the method's default."""
    method: AnyMethod = Field(None, validate_default=True)
    """How it learns."""
    networks: Annotated[Any, Later(dict[str, AnyNetwork])] = {}
    """What the method needs besides the network, by name."""
    augmentation: AnyAugmentation = None
    """Applied to the training images."""
    weighting: AnyWeighting = Draft(Scheduled)
    """How the losses of one update become one number."""


class TeacherSection(TrainedSection):
    """A network that is trained or loaded."""

    load: Text | None = None
    """File of a trained network; with `training` it starts there, without it is not trained."""
    new_layers: Names = ()
    """Module paths that do not take their weights from `load`."""


class StudentSection(TeacherSection):
    """A student."""

    start_from_teacher: Names = ()
    """Networks that start as a copy of the teacher's, or modules in them, such as "student.encoder"."""


class ControlSection(Section):
    """What a control has of its own."""

    training: Annotated[Any, Later(TrainingSection)] = None
    """How long, and in which way."""
    method: Annotated[Any, Later(AnyMethod)] = None
    """How it learns."""
    weights: Annotated[Any, Later(dict[str, Weight])] = {}
    """Weights of losses, by "player.loss"."""
    weighting: Annotated[Any, Later(AnyWeighting)] = None
    """How the losses of one update become one number."""


class VariantSection(StudentSection):
    """One of several students: a change of `student`."""

    taught_by: Annotated[Any, Later(str)] = None
    """An earlier student that is its teacher: an assistant."""
    control: Annotated[Any, Later(bool | str | ControlSection)] = None
    """True, false, its own training, method and weights, or an earlier student that it is measured against."""


class FeaturesSection(TeacherSection):
    """A classifier, trained on the data, by whose features distributions are compared."""

    name: Name = Field(None, validate_default=True)
    """What the metrics are named after."""


class TriedSection(Section):
    """How many settings were tried before these."""

    student: Count | None = None
    """Of the students."""
    control: Count | None = None
    """Of the controls."""


class RecipeSection(Section):
    """A recipe of Limbeck."""

    name: Name = Field(None, validate_default=True)
    """Names the run and its results."""
    seed: Seed = 0
    """The first seed."""
    seeds: Count = 1
    """How many runs of student and control."""
    data: Annotated[Any, PartOf((Data,))] = Field(None, validate_default=True)
    """The data set."""
    task: Annotated[Any, PartOf((Task,))] = Field(None, validate_default=True)
    """What the networks are for."""
    features: Annotated[Any, Later(Annotated[FeaturesSection, PartOf((FeatureExtractor,), alone=False)])] = None
    """What distributions are compared by: a classifier trained on the data, or a ready one."""
    method: Annotated[Any, Later(AnyMethod)] = None
    """How every arm learns that has no method of its own."""
    networks: Annotated[Any, Later(dict[str, AnyNetwork])] = {}
    """What the method needs besides the network, for every arm."""
    augmentation: Annotated[Any, Later(AnyAugmentation)] = None
    """Applied to the training images of every arm."""
    weighting: Annotated[Any, Later(AnyWeighting)] = None
    """How the losses of one update become one number, for every arm."""
    teacher: Annotated[Any, Later(TeacherSection)] = None
    """What the students learn from."""
    student: Annotated[Any, Later(StudentSection)] = None
    """The student, or what several have in common."""
    students: Annotated[Any, Later(dict[str, VariantSection | None])] = {}
    """Several students by name."""
    control: Annotated[Any, Later(bool | ControlSection)] = None
    """The student without teacher: true, false, or its own training, method and weights."""
    baselines: Annotated[Any, Later(dict[str, AnyNetwork])] = {}
    """Networks without training, by name, evaluated only."""
    settings_tried: Annotated[Any, Later(TriedSection)] = None
    """How many settings were tried before these."""
