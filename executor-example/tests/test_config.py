"""pi's configuration: copied, and looked over."""

import json
import os
import tempfile
import unittest
from pathlib import Path
from typing import Any

from config import Model, check_agent, copy_configuration, read_model, wants_format_turn
from failure import BAD_CONFIGURATION, Failure

PROVIDER = {"baseUrl": "https://u:p@llm.example.org/v1", "apiKey": "$LLM_API_KEY", "models": [{"id": "m"}]}
SETTINGS = {"defaultProvider": "x", "defaultModel": "m"}


class ReadModel(unittest.TestCase):
    def test_keys_of_other_providers_are_secrets_too(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            providers = {"x": PROVIDER, "y": {"apiKey": "sk-other"}, "z": {"apiKey": "$NOT_SET"}, "w": 3}
            (Path(folder) / "models.json").write_text(json.dumps({"providers": providers}))
            (Path(folder) / "settings.json").write_text(json.dumps(SETTINGS))
            model = read_model(Path(folder), Path("/etc/pi-agent"), {"LLM_API_KEY": "sk-123456789"})
        self.assertEqual(model.secrets, ("sk-123456789", "sk-other"))

    def read(self, provider: Any, settings: Any = SETTINGS, environment: dict[str, str] | None = None) -> Model:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "models.json").write_text(json.dumps({"providers": {"x": provider}}))
            (Path(folder) / "settings.json").write_text(json.dumps(settings))
            return read_model(Path(folder), Path("/etc/pi-agent"), environment or {"LLM_API_KEY": "sk-123456789"})

    def refused(self, *arguments: Any) -> str:
        with self.assertRaises(Failure) as caught:
            self.read(*arguments)
        self.assertEqual(caught.exception.status, BAD_CONFIGURATION)
        return caught.exception.message

    def test_a_key_in_a_variable(self) -> None:
        model = self.read(PROVIDER)
        self.assertEqual((model.provider, model.id, model.secrets), ("x", "m", ("sk-123456789",)))
        self.assertEqual(model.endpoint, "https://llm.example.org/v1", "without the password")

    def test_keys_of_every_kind(self) -> None:
        headers = {"X-Key": "Bearer ${TOKEN}", "X-Price": "$$5"}
        model = self.read({**PROVIDER, "apiKey": "sk-literal", "headers": headers}, SETTINGS, {"TOKEN": "t0ken"})
        self.assertEqual(model.secrets, ("sk-literal", "t0ken"))
        self.assertEqual(self.read({**PROVIDER, "apiKey": "!pass show llm"}).secrets, ())

    def test_what_is_missing(self) -> None:
        self.assertIn("LLM_API_KEY isn't set", self.refused(PROVIDER, SETTINGS, {"OTHER": "x"}))
        self.assertIn("LLM_API_KEY isn't set", self.refused(PROVIDER, SETTINGS, {"LLM_API_KEY": ""}))
        self.assertIn("must name `defaultProvider`", self.refused(PROVIDER, {}))
        self.assertIn("has no provider 'y'", self.refused(PROVIDER, {**SETTINGS, "defaultProvider": "y"}))
        self.assertIn("has no model 'n'", self.refused(PROVIDER, {**SETTINGS, "defaultModel": "n"}))
        self.assertIn("has no `apiKey`", self.refused({"baseUrl": "http://x"}))
        self.assertIn("isn't a JSON object", self.refused(PROVIDER, []))


class Copy(unittest.TestCase):
    def test_files_are_copied_for_the_owner_alone(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "a", Path(folder) / "b"
            source.mkdir()
            (source / "models.json").write_text("{}")
            (source / "sub").mkdir()
            copy_configuration(source, target)
            self.assertEqual(os.listdir(target), ["models.json"])
            modes = (target.stat().st_mode & 0o777, (target / "models.json").stat().st_mode & 0o777)
            self.assertEqual(modes, (0o700, 0o600))

    def test_what_editors_leave_behind_does_not_matter(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "a", Path(folder) / "b"
            source.mkdir()
            for name in ("models.json", ".models.json.swp", "models.json~"):
                (source / name).write_text("{}")
            self.assertEqual(copy_configuration(source, target), [])
            self.assertEqual(os.listdir(target), ["models.json"])

    def test_the_examples_can_be_read(self) -> None:
        examples = Path(__file__).parent.parent / "pi-agent"
        with tempfile.TemporaryDirectory() as folder:
            for name in ("models.json", "settings.json"):
                (Path(folder) / name).write_bytes((examples / f"{name}.example").read_bytes())
            providers = json.loads((Path(folder) / "models.json").read_text())["providers"]
            styles = {entry["api"] for entry in providers.values()}
            self.assertEqual(styles, {"openai-completions", "anthropic-messages"})
            for provider in providers:
                settings = json.loads((Path(folder) / "settings.json").read_text())
                (Path(folder) / "settings.json").write_text(json.dumps({**settings, "defaultProvider": provider}))
                model = read_model(Path(folder), examples, {"LLM_API_KEY": "sk-123456789"})
                self.assertEqual((model.provider, model.id), (provider, "my-model"))


class Agent(unittest.TestCase):
    def refused(self, text: str | None) -> str:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "AGENT.md").write_text("You are short.")
            skill = Path(folder) / "skills" / "one"
            skill.mkdir(parents=True)
            if text is not None:
                (skill / "SKILL.md").write_text(text)
            try:
                check_agent(Path(folder))
            except Failure as failure:
                self.assertEqual(failure.status, BAD_CONFIGURATION)
                return failure.message
        return ""

    def test_a_skill_that_pi_would_leave_out_without_a_word_is_refused(self) -> None:
        self.assertIn("can't be read", self.refused(None))
        self.assertIn("must begin with a line ---", self.refused("# A skill\n"))
        self.assertIn("must begin with a line ---", self.refused("---\nname: x\ndescription: y\n"))
        self.assertIn("has no `description`", self.refused("---\nname: x\n---\ntext\n"))
        self.assertIn("has no `name`", self.refused("---\ndescription: x\n---\ntext\n"))
        self.assertIn("in quotes", self.refused("---\nname: x\ndescription: Use it: always\n---\n"))

    def test_skills_as_people_write_them(self) -> None:
        for description in ("Plain words.", '"Use it: always."', "'a # b'", "http://x", ">\n  Folded: text"):
            self.assertEqual(self.refused(f"---\nname: x\ndescription: {description}\n---\ntext\n"), "")


class FormatTurn(unittest.TestCase):
    def test_on_and_off_and_nothing_else(self) -> None:
        self.assertTrue(wants_format_turn({}))
        self.assertFalse(wants_format_turn({"FORMAT_TURN": "off"}))
        with self.assertRaises(Failure):
            wants_format_turn({"FORMAT_TURN": "false"})


if __name__ == "__main__":
    unittest.main()
