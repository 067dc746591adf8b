"""Splits a block of shell into its simple commands: enough of the grammar for what documentation contains."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
HEREDOC = re.compile(r"(<<-?\s*(['\"]?)(\w+)\2[^\n]*)\n.*?^\s*\3$", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(r"<([a-z][a-z_ -]*)>")
SUBSTITUTION = re.compile(r"\$\([^()]*(?:\([^()]*\)[^()]*)*\)")
SEPARATORS = {"&&", "||", "|", ";", "&", "(", ")", "\n", ";;", "|&"}
REDIRECTIONS = {">", ">>", "<", "<<", ">&", "&>", "<<<"}
WORDS = {"if", "then", "else", "fi", "for", "in", "do", "done", "while", "until", "!", "{", "}", "time"}
ID = "q3ZKx0aTdFz3SVRbrQqKHCtCWhRzoQ"


@dataclass
class Command:
    """A simple command: its assignments, program and arguments."""

    assigned: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    @property
    def program(self) -> str:
        """The name of the program, without its folder."""
        return self.words[0].rpartition("/")[2] if self.words else ""


def without_placeholders(text: str) -> str:
    """Return the text with values instead of placeholders such as `<ws_uri>`."""
    values = {"id": ID, "ws_uri": f"localhost:8080/{ID}"}
    return PLACEHOLDER.sub(lambda found: values.get(found[1], "placeholder"), text)


def commands(text: str) -> Iterator[Command]:
    """Yield all simple commands; those in `$(...)`, too."""
    text = HEREDOC.sub(r"\1", without_placeholders(text))
    for inner in SUBSTITUTION.findall(text):
        yield from commands(inner[2:-1])
    text = SUBSTITUTION.sub("A" * 32, text)
    text = re.sub(r"^\$ ", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    for line in _lines(text):
        yield from _commands(line)


def _lines(text: str) -> Iterator[str]:
    """Yield whole lines: a quoted word may go over several."""
    line = ""
    for each in text.splitlines():
        line = f"{line}\n{each}" if line else each
        try:
            shlex.split(line, comments=True)
        except ValueError:
            continue
        yield line
        line = ""
    assert not line, f"a quote is not closed: {line}"


def _commands(line: str) -> Iterator[Command]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    command, is_target = Command(), False
    for word in [*lexer, ";"]:
        if word in SEPARATORS:
            if command.assigned or command.words:
                yield command
            command, is_target = Command(), False
        elif word in REDIRECTIONS:
            is_target = True
        elif is_target:
            is_target = False
        elif not command.words and (found := ASSIGNMENT.fullmatch(word)):
            command.assigned[found[1]] = found[2]
        elif command.words or word not in WORDS:
            command.words.append(word)
