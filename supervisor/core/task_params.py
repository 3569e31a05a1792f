"""The params of a task: one set of rules for orders by HTTP, SQL and messages (docs/http-reference.md).

HTTP checks a whole body with `check_submission`, admission checks the params of a row with `check_params`; both use the
same checks: one model of params, and the declaration of the task's type.  Nothing is coerced: "2" and `true` are not
numbers, and null is not the same as absent.  An unknown member is refused, since a misspelt one would be paid for and
ignored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from config.settings import Settings
from config.task_type import NO_INPUTS, TaskType
from supervisor.core.errors import BadParams
from supervisor.core.price import Cost, NoPrice, cost_of

INPUT_KINDS = ("images", "videos", "audio", "files")
MOST_PROMPT_CHARACTERS = 4000
MOST_URL_CHARACTERS = 2048
MOST_MEMBERS = 100  # of a body, or of params; `parameters` may have more
MOST_POINTER_CHARACTERS = 1000
MOST_NESTED = 64  # levels of `parameters`; SQLite's JSON functions stop at 1000
PRIORITIES = (-10, 10)

_IMAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
# The guard of PostgreSQL refuses what may be rounded beyond it.
_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Pointer = str  # RFC 6901, into the body (`/params/images/0`), or into params when only these were given


class BadTask(BadParams):
    """The submission is well-formed but wrong.  `errors`: the mistakes and their places, never empty; `code`:
    error.code."""

    def __init__(self, errors: list[tuple[Pointer, str]], code: str = "bad_params") -> None:
        pointer, detail = errors[0]
        super().__init__(f"{pointer.removeprefix('/').replace('/', '.') or 'params'}: {detail}", code)
        self.errors = errors


@dataclass(frozen=True, slots=True)
class CheckedParams:
    """Params that can be run.  images: ids of uploads or https URLs.  scene_id, provider: None if none was named.

    cost: their price, if credits are enabled.
    """

    type: str
    images: tuple[str, ...]
    prompt: str
    scene_id: str | None
    count: int
    parameters: Mapping[str, Any]
    cost: Cost
    provider: str | None = None
    others: tuple[tuple[str, str], ...] = ()  # (kind, id or URL) of the inputs that are not pictures

    @property
    def uploads(self) -> tuple[tuple[str, int, str], ...]:
        """(kind, place in its list, id) of the inputs that must be uploads of the same user."""
        lists = {kind: [entry for of, entry in self.others if of == kind] for kind in INPUT_KINDS[1:]}
        return tuple(
            (kind, place, entry)
            for kind, entries in {"images": self.images, **lists}.items()
            for place, entry in enumerate(entries)
            if not is_url(entry)
        )

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Ids of the inputs that must be uploads of the same user."""
        return tuple(entry for _, _, entry in self.uploads)


@dataclass(frozen=True, slots=True)
class Submission:
    """A task as it was ordered.  params: as they were given, fit to be stored.  run_after: UTC, milliseconds, or None.

    webhook: the address for a message at its end, or None.
    """

    type: str
    params: dict[str, Any]
    checked: CheckedParams
    priority: int
    run_after: str | None
    webhook: str | None = None


def inputs_in(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind, id or URL) of every input that params name, in the order in which services receive them."""
    return [(kind, entry) for kind in INPUT_KINDS for entry in params.get(kind, ())]


def is_url(image: str) -> bool:
    """Whether an entry of `images` is an address rather than an upload's id."""
    return ":" in image


def check_params(type_name: str, params: Any, settings: Settings) -> CheckedParams:
    """The params of a task of this type.  Raises BadTask, with code `unknown_type` or `bad_params`."""
    if type_name not in settings.tasks:
        known = ", ".join(sorted(settings.tasks))
        raise BadTask(
            [("/type", f"There is no type '{_shown(type_name)}'; there are {known}.")], "unknown_type"
        )
    task_type = settings.tasks[type_name]
    _refuse_crowd(params)
    try:
        checked = TaskParams.model_validate(params)
    except ValidationError as error:
        raise BadTask(_errors_of(error)) from None
    mistakes = list(_mistakes_of_type(checked, task_type))
    if mistakes:
        raise BadTask(mistakes)
    count = task_type.count[0] if checked.count is None else checked.count
    _refuse_unpaid(checked, task_type, count)
    if count > 1 and (name := _repeats_itself(checked, task_type, settings)):
        says = f"Each picture would be the same: the workflow of {name} has no ${{seed}}. Order one."
        raise BadTask([("/count", says)])
    return CheckedParams(
        type=type_name,
        images=tuple(checked.images),
        prompt=checked.prompt,
        scene_id=checked.sceneId,
        count=count,
        parameters=checked.parameters,
        cost=_cost(task_type, count, checked.parameters),
        provider=checked.provider,
        others=tuple((kind, entry) for kind in INPUT_KINDS[1:] for entry in getattr(checked, kind)),
    )


def _repeats_itself(params: TaskParams, task_type: TaskType, settings: Settings) -> str | None:
    """The first allowed provider that would make the same picture each time; None if there is none."""
    fixed = task_type.frozen_steps()
    if fixed is not None:
        # A step that makes one picture may repeat itself, and so may the requests of `for_each`: their inputs differ.
        names = [name for step in fixed if step["count"] and not step["for_each"] for name in step["chain"]]
    else:
        names = list(task_type.chain) if params.provider is None else [params.provider]
    return next((name for name in names if settings.providers[name].repeats_itself), None)


def _refuse_unpaid(params: TaskParams, task_type: TaskType, count: int) -> None:
    """The price is for the ordered pictures, so a last step that goes over a list of the order makes no more than
    these.  Raises BadTask."""
    names = task_type.list_of_last_step
    if not names:
        return
    found: Any = {"parameters": task_type.filled(params.parameters)} if names[0] == "parameters" else params
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
    if isinstance(found, list) and len(found) > count:
        says = f"One picture is made for each of these {len(found)}, but {count} is ordered as `count`."
        raise BadTask([(pointer_to(names), says)])


def _refuse_crowd(value: Any) -> None:
    """Each unknown member would be reported as a mistake; too many of them are reported as one."""
    if isinstance(value, dict) and len(value) > MOST_MEMBERS:
        raise BadTask([("", f"There are {len(value):,} members; at most {MOST_MEMBERS} can be meant.")])


def _cost(task_type: TaskType, count: int, parameters: Mapping[str, Any]) -> Cost:
    """Raises BadTask."""
    try:
        return cost_of(task_type.price_in_use, count=count, parameters=task_type.filled(parameters))
    except NoPrice as none:
        place = ("parameters", none.member) if none.member else ("parameters",)
        raise BadTask([(pointer_to(place), str(none))]) from None


def _mistakes_of_type(params: TaskParams, task_type: TaskType) -> Iterator[tuple[Pointer, str]]:
    """The mistakes in params that are well-formed, but not allowed by this type."""
    for kind, (fewest, most) in task_type.inputs.bounds.items():
        number = len(getattr(params, kind))
        if not fewest <= number <= most:
            yield (
                f"/{kind}",
                _said_of_inputs(kind, fewest, most, number, named=kind in params.model_fields_set),
            )
    fewest, most = task_type.count
    if params.count is not None and params.count < fewest:
        yield "/count", f"This must be greater than or equal to {fewest}."
    if params.count is not None and params.count > most:
        yield "/count", f"This must be less than or equal to {most}."
    scenes = task_type.scenes
    if params.sceneId is not None and scenes and params.sceneId not in scenes:
        yield "/sceneId", f"There is no scene '{_shown(params.sceneId)}'; there are {', '.join(scenes)}."
    if params.provider is not None and params.provider not in task_type.allow_providers:
        names = ", ".join(task_type.allow_providers)
        may_be = (
            f"this type lets a task name {names}." if names else "this type does not let a task name one."
        )
        yield "/provider", f"There is no provider '{_shown(params.provider)}' to be named; {may_be}"
    schema = task_type.schema_of_parameters
    if schema is not None:
        for where, sentence in schema.mistakes_in(params.parameters):
            yield pointer_to(("parameters", *where)), sentence


def _said_of_inputs(kind: str, fewest: int, most: int, number: int, *, named: bool) -> str:
    if not named:
        return "This member is required."
    if (fewest, most) == NO_INPUTS:
        return f"This type takes no {kind}."
    bound = f"at least {fewest}" if number < fewest else f"at most {most}"
    return f"There must be {bound} item{'' if bound.endswith(' 1') else 's'}, not {number}."


def check_submission(body: Any, settings: Settings, *, may_jump_the_queue: bool) -> Submission:
    """The body of a submission.  may_jump_the_queue: the caller may use a priority above 0.  Raises BadTask."""
    _refuse_crowd(body)
    try:
        envelope = SubmissionBody.model_validate(body)
    except ValidationError as error:
        raise BadTask(_errors_of(error)) from None
    if envelope.priority > 0 and not may_jump_the_queue:
        raise BadTask([("/priority", "A user may only lower the priority: -10 to 0.")])
    _refuse_webhook(envelope.webhook, settings)
    try:
        checked = check_params(envelope.type, envelope.params, settings)
    except BadTask as bad:
        if bad.code == "unknown_type":
            raise
        raise BadTask([(f"/params{pointer}", detail) for pointer, detail in bad.errors], bad.code) from None
    return Submission(
        envelope.type, envelope.params, checked, envelope.priority, envelope.run_after, envelope.webhook
    )


def _refuse_webhook(url: str | None, settings: Settings) -> None:
    """Only its form is checked here; the host is checked when the message is sent."""
    schemes = ("https", "http") if settings.webhooks.allow_private_addresses else ("https",)
    if url is not None and not _is_address(url, schemes):
        raise BadTask(
            [
                (
                    "/webhook",
                    f"A webhook is an {' or '.join(schemes)} URL without user and password, of at most "
                    f"{MOST_URL_CHARACTERS} characters.",
                )
            ]
        )


# --- the models; member names are the contract's ---
# Each declares its values for pydantic and, where a validator checks more than a type can say, also as JSON Schema.

_IMAGE_SCHEMA = {
    "type": "string",
    "maxLength": MOST_URL_CHARACTERS,
    "pattern": r"^([A-Za-z0-9_-]{1,64}|https://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(/[!-~]*)?)$",
    "description": "The id of an upload, or an https URL.",
}
_TEXT_SCHEMA = {"type": "string", "pattern": r"^[^\u0000]*$"}
_WEBHOOK_SCHEMA = {
    "type": "string",
    "maxLength": MOST_URL_CHARACTERS,
    "pattern": r"^https://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:[1-9][0-9]{0,3})?(/[!-~]*)?$",
}


def _described(schema: dict[str, Any], description: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({**schema, "description": description, **more})


_Image = Annotated[str, WithJsonSchema(_IMAGE_SCHEMA)]


class _Closed(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TaskParams(_Closed):
    """The inputs of a task; its type says how many of each kind."""

    images: Annotated[
        list[_Image], Field(description="What is worked on, in the order that the type names.")
    ] = Field(default_factory=list)
    videos: Annotated[list[_Image], Field(description="Films: ids of uploads, or https URLs.")] = Field(
        default_factory=list
    )
    audio: Annotated[list[_Image], Field(description="Sound: ids of uploads, or https URLs.")] = Field(
        default_factory=list
    )
    files: Annotated[list[_Image], Field(description="Other files: ids of uploads, or https URLs.")] = Field(
        default_factory=list
    )
    prompt: Annotated[
        str,
        Field(max_length=MOST_PROMPT_CHARACTERS),
        _described(
            _TEXT_SCHEMA, "What the picture shall show.", maxLength=MOST_PROMPT_CHARACTERS, default=""
        ),
    ] = ""
    sceneId: Annotated[str | None, _described(_TEXT_SCHEMA, "The scene, for services that know scenes.")] = (
        None
    )
    count: Annotated[int | None, _described({"type": "integer"}, "How many pictures.")] = None
    provider: Annotated[
        str | None,
        _described(
            {**_TEXT_SCHEMA, "maxLength": 32},
            "Which AI service makes them, and no other: one that the type's `ALLOW_PROVIDERS` lists.",
        ),
    ] = None
    parameters: Annotated[
        dict[str, Any], Field(description="Handed to the AI service as it is; nested at most 64 deep.")
    ] = Field(default_factory=dict, json_schema_extra={"propertyNames": {**_TEXT_SCHEMA}})

    @field_validator(*INPUT_KINDS)
    @classmethod
    def _name_inputs(cls, images: list[str], info: ValidationInfo) -> list[str]:
        for n, image in enumerate(images):
            if image.startswith("cloud://"):
                raise _at(
                    (n,),
                    "A cloud:// id is known to its cloud alone; give the https link that getTempFileURL() makes.",
                )
            if not _IMAGE_ID.fullmatch(image) and not _is_https_url(image):
                what = "An image" if info.field_name == "images" else "A file"
                raise _at((n,), f"{what} is the id of an upload or an https URL.")
        return images

    @field_validator("count", mode="before")
    @classmethod
    def _be_a_number(cls, count: Any) -> Any:
        if count is None:
            raise _at((), "This must be a whole number; leave it out to use the default.")
        return count

    @field_validator("prompt", "sceneId", "provider", mode="before")
    @classmethod
    def _be_storable_text(cls, text: Any) -> Any:
        if text is None:
            raise _at((), "This must be text; leave it out to use the default.")
        if isinstance(text, str) and _UNSTORABLE.search(text):
            raise _at((), "Text may not hold NUL or a lone surrogate.")
        return text

    @field_validator("parameters")
    @classmethod
    def _be_storable_json(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if not _is_plainly_storable(parameters):
            for where, fault in _unstorable_in(parameters):
                raise _at(where, fault)
        return parameters


class SubmissionBody(_Closed):
    """A task as it is asked for."""

    type: str
    params: dict[str, Any]
    priority: Annotated[
        int,
        Field(
            ge=PRIORITIES[0],
            le=PRIORITIES[1],
            description="Higher runs sooner.  Role `user` may only lower it: -10 to 0.",
        ),
    ] = 0
    run_after: Annotated[
        str | None,
        _described(
            {"type": "string", "format": "date-time"}, "Not before this time: RFC 3339 with its offset."
        ),
    ] = None

    webhook: Annotated[
        str | None,
        _described(_WEBHOOK_SCHEMA, "An https URL that gets a signed message when the task has ended."),
    ] = None

    @field_validator("webhook", mode="before")
    @classmethod
    def _be_given(cls, url: Any) -> Any:
        if url is None:
            raise _at((), "This must be text; leave it out for no webhook.")
        return url

    @field_validator("run_after", mode="before")
    @classmethod
    def _be_a_moment(cls, text: Any) -> str:
        if not isinstance(text, str) or not _RFC3339.fullmatch(text):
            raise _at((), "A time is RFC 3339 with its offset, such as 2027-01-31T09:00:00.000Z.")
        try:
            moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise _at((), "There is no such time.") from None
        if moment >= _END_OF_TIME:
            raise _at((), "A task can't wait for the end of time; name a day before 9999-12-31.")
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- what the models ask ---


def _is_https_url(text: str) -> bool:
    return _is_address(text, ("https",))


def _is_address(text: str, schemes: Collection[str]) -> bool:
    if len(text) > MOST_URL_CHARACTERS or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in schemes
            and bool(parts.hostname)
            and parts.username is None
            and parts.password is None
            and parts.port != 0
        )
    except ValueError:
        return False


def _is_plainly_storable(value: Any) -> bool:
    """True if one quick pass finds nothing that `_unstorable_in` could refuse; that function takes ten times as
    long."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    opened = text.count("[") + text.count("{")
    return (
        opened <= MOST_NESTED and "\\u0000" not in text and (text.isascii() or not _UNSTORABLE.search(text))
    )


def _unstorable_in(value: Any) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """The places in a JSON value that a database or a later reader can't take.  Iterative, because the caller chooses
    the depth."""
    waiting: list[tuple[tuple[int | str, ...], Any]] = [((), value)]
    while waiting:
        where, here = waiting.pop()
        if isinstance(here, str) and _UNSTORABLE.search(here):
            yield where, "Text may not hold NUL or a lone surrogate."
        elif isinstance(here, float) and not math.isfinite(here):
            yield where, "A number must be finite."
        elif isinstance(here, dict | list):
            if len(where) >= MOST_NESTED:
                yield where, f"Values may be nested {MOST_NESTED} deep."
                continue
            entries = here.items() if isinstance(here, dict) else enumerate(here)
            for key, entry in entries:
                if isinstance(key, str) and _UNSTORABLE.search(key):
                    yield where, "A name may not hold NUL or a lone surrogate."
                waiting.append(((*where, key), entry))


def _at(where: tuple[int | str, ...], sentence: str) -> PydanticCustomError:
    """A fault in a part of the field; `_errors_of` adds the part to the field's own place."""
    return PydanticCustomError("darkroom", "{sentence}", {"sentence": sentence, "where": where})


def _errors_of(error: ValidationError) -> list[tuple[Pointer, str]]:
    found = []
    for each in error.errors(include_url=False, include_input=False):
        context = each.get("ctx", {})
        where = (*each["loc"], *context.get("where", ()))
        found.append((pointer_to(where), context.get("sentence") or _sentence(each["type"], each["msg"])))
    return found


def _sentence(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "There is no such member."
    if kind == "missing":
        return "This member is required."
    if kind in ("model_type", "dict_type"):
        return "This must be a JSON object."
    if kind == "string_unicode":
        return "Text may not hold NUL or a lone surrogate."
    return message.rstrip(".") + "."


def pointer_to(where: tuple[int | str, ...]) -> Pointer:
    """A JSON pointer (RFC 6901).  Characters that a response can't hold become `?`."""
    parts = (_shown(str(part)).replace("~", "~0").replace("/", "~1") for part in where)
    return "".join(f"/{part}" for part in parts)[:MOST_POINTER_CHARACTERS].rstrip("~")


def _shown(text: str) -> str:
    return _UNSTORABLE.sub("?", text)[:100]
