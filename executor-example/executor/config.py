"""pi's configuration: from a read-only mount to a private folder, and looked over before pi starts.

pi writes beside its configuration, so it gets a copy. What is wrong with the files is said here, since pi itself would
answer a missing key with an advice that doesn't help in a container.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failure import BAD_CONFIGURATION, Failure

Environment = Mapping[str, str]
# Where README.en.md tells people to mount their files, and which of them have to be there.
MOUNTED = Path("/etc/pi-agent")
NEEDED = ("models.json", "settings.json")
# `$NAME` and `${NAME}`, as pi reads them; `$$` is a dollar.
VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


@dataclass(frozen=True)
class Model:
    """Which model answers, and the words that must not be printed."""

    provider: str
    id: str
    endpoint: str
    secrets: tuple[str, ...]


def bad(what: str) -> Failure:
    """The machine's configuration is wrong, and the task had no chance."""
    return Failure(BAD_CONFIGURATION, f"this executor isn't configured: {what}")


def copy_configuration(source: Path, target: Path) -> list[str]:
    """Copies the files, not the folders, that lie in `source`. Returns what is to be said of those that it leaves out."""
    try:
        names = sorted(os.listdir(source))
    except FileNotFoundError:
        raise bad(f"there is no {source}; mount the folder with models.json and settings.json there") from None
    except OSError as error:
        raise bad(f"{source} can't be read by user {os.getuid()}: {error.strerror}") from None
    target.mkdir(mode=0o700)
    notes = []
    for name in names:
        # What editors leave beside the file that they have open.
        if name.startswith(".") or name.endswith("~"):
            continue
        try:
            if not (source / name).is_file():
                continue
        except PermissionError:
            raise bad(f"{source} can't be entered by user {os.getuid()}; let everybody enter it (chmod a+rx)") from None
        try:
            data = _read(source / name)
        except Failure:
            if name in NEEDED:
                raise
            notes.append(f"{source / name} can't be read by user {os.getuid()} and is left out")
            continue
        descriptor = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    return notes


def wants_format_turn(environment: Environment) -> bool:
    """Whether a second turn may change the form of an answer (`FORMAT_TURN`)."""
    value = environment.get("FORMAT_TURN", "on")
    if value not in ("on", "off"):
        raise bad(f"FORMAT_TURN is {value!r}; it must be on or off")
    return value == "on"


def check_agent(folder: Path) -> None:
    """Fails where the system prompt is missing: pi would take the file's path for the prompt itself."""
    try:
        is_there = bool((folder / "AGENT.md").read_bytes().strip())
    except OSError as error:
        raise bad(f"{folder / 'AGENT.md'} can't be read: {error.strerror}") from None
    if not is_there:
        raise bad(f"{folder / 'AGENT.md'} is empty")
    for skill in sorted((folder / "skills").glob("*/")):
        if skill.is_dir():
            _check_skill(skill / "SKILL.md")


def _check_skill(path: Path) -> None:
    """Fails where pi would leave a skill out without a word: it wants a name and a description in the front matter."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise bad(f"the skill {path} can't be read: {error}") from None
    begin, *parts = re.split(r"^---[ \t]*\r?$", text, maxsplit=2, flags=re.MULTILINE)
    if begin.strip("\ufeff \r\n") or len(parts) < 2:
        raise bad(f"the skill {path} must begin with a line ---, `name:`, `description:`, and a line --- again")
    for key in ("name", "description"):
        found = re.search(rf"^{key}:[ \t]*(\S.*)$", parts[0], flags=re.MULTILINE)
        if found is None:
            raise bad(f"the skill {path} has no `{key}` in its front matter")
        value = found[1].strip()
        if value[0] not in "'\"|>" and (": " in value or " #" in value or value.endswith(":")):
            raise bad(f"the skill {path}: put the value of `{key}` in quotes, since it holds a colon or a #")


def read_model(folder: Path, shown: Path, environment: Environment) -> Model:
    """The model that settings.json names, if models.json and the environment have all that it needs.

    `shown` is the folder that messages name: the one that people know.
    """
    settings = _json(folder, shown, "settings.json")
    models = _json(folder, shown, "models.json")
    provider, model = settings.get("defaultProvider"), settings.get("defaultModel")
    if not (isinstance(provider, str) and provider and isinstance(model, str) and model):
        raise bad(f"{shown / 'settings.json'} must name `defaultProvider` and `defaultModel`")
    providers = models.get("providers")
    if not isinstance(providers, dict):
        raise bad(f"{shown / 'models.json'} has no `providers`")
    entry = providers.get(provider)
    if not isinstance(entry, dict):
        raise bad(f"{shown / 'models.json'} has no provider {provider!r}, which settings.json names")
    listed = entry.get("models")
    if isinstance(listed, list) and model not in [one.get("id") for one in listed if isinstance(one, dict)]:
        raise bad(f"{shown / 'models.json'} has no model {model!r} of {provider!r}, which settings.json names")
    key = entry.get("apiKey")
    if not (isinstance(key, str) and key):
        raise bad(f"{shown / 'models.json'} has no `apiKey` for {provider!r}; an endpoint without keys takes any word")
    for name in _variables(entry):
        if not environment.get(name):
            raise bad(
                f"the variable {name} isn't set, which models.json wants; set it under [executor.env] of config.toml"
            )
    # Keys of providers that aren't used lie in the same file, and must not be printed either.
    secrets = [secret for other in providers.values() for secret in _secrets(other, environment)]
    secrets += _words(_optional_json(folder, shown, "auth.json"))
    return Model(provider, model, _endpoint(entry.get("baseUrl"), provider), tuple(secrets))


def _endpoint(url: Any, provider: str) -> str:
    """The address for messages, without a password that it may hold. pi knows that of some providers by itself."""
    return re.sub(r"//[^/@]*@", "//", url) if isinstance(url, str) else provider


def _key_and_headers(entry: Any) -> list[str]:
    """The values of a provider that may hold keys. What begins with `!` is a command that pi runs for it."""
    entry = entry if isinstance(entry, dict) else {}
    models = entry.get("models")
    values = [entry.get("apiKey")]
    for part in (entry, *(models if isinstance(models, list) else ())):
        headers = part.get("headers") if isinstance(part, dict) else None
        values += headers.values() if isinstance(headers, dict) else ()
    return [value for value in values if isinstance(value, str) and not value.startswith("!")]


def _variables(entry: Any) -> list[str]:
    """The variables of the environment that a provider's key and headers name."""
    matches = [match for value in _key_and_headers(entry) for match in VARIABLE.finditer(value)]
    return [match[1] or match[2] for match in matches if match[1] or match[2]]


def _secrets(entry: Any, environment: Environment) -> list[str]:
    """What must not be printed of a provider."""
    literal = [value for value in _key_and_headers(entry) if not VARIABLE.search(value)]
    return literal + [environment[name] for name in _variables(entry) if environment.get(name)]


def _json(folder: Path, shown: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(_read(folder / name, shown / name).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # The error's own words have no piece of the file in them, which may hold a key.
        raise bad(f"{shown / name} isn't JSON (comments aren't allowed here): {error}") from None
    if not isinstance(value, dict):
        raise bad(f"{shown / name} isn't a JSON object")
    return value


def _optional_json(folder: Path, shown: Path, name: str) -> dict[str, Any]:
    return _json(folder, shown, name) if (folder / name).exists() else {}


def _words(value: Any) -> list[str]:
    """Every text in a file of credentials that is long enough to be one."""
    if isinstance(value, dict):
        return [word for part in value.values() for word in _words(part)]
    if isinstance(value, list):
        return [word for part in value for word in _words(part)]
    return [value] if isinstance(value, str) and len(value) >= 16 else []


def _read(path: Path, shown: Path | None = None) -> bytes:
    shown = shown or path
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise bad(f"there is no {shown}") from None
    except PermissionError:
        raise bad(
            f"{shown} can't be read by user {os.getuid()}; make it readable for that user, or set `user` under "
            "[executor] in config.toml to one who may read it"
        ) from None
    except OSError as error:
        raise bad(f"{shown} can't be read: {error.strerror}") from None
