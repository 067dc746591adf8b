"""POSTs: a client that the backend accepts, one that it refuses, and the subprotocol."""

from collections.abc import Sequence
from typing import Final

from wsaas.check.context import Context, Stop
from wsaas.check.observed import Observed, joined
from wsaas.delivery.failure_report import is_deliberate
from wsaas.delivery.verdicts import Accepted, Rejected
from wsaas.errors import HTTPError
from wsaas.http.response import Response
from wsaas.log.wording import counted

UNKNOWN_SUBPROTOCOL: Final = "wsaas-check"
_REFUSALS: Final = {401, 403}
_CLIENT_ERROR: Final = 4


async def check_accepted(context: Context) -> None:
    """Let a client connect, and keep it for the messages."""
    client, observed = await context.connect(context.settings.subprotocols)
    verdict = observed.verdict
    if not isinstance(verdict, Accepted):
        context.report.fail("POST", observed.what(), _mend_refusal(context, observed))
        raise Stop
    if client.refusal is not None:
        _report_unusable(context, verdict, client.refusal, context.settings.subprotocols)
        raise Stop
    context.keep(client)
    context.report.ok("POST", f"the client is accepted with {observed.status} in {observed.took}")
    _report_answer(context, verdict)


async def check_refused(context: Context) -> None:
    """Let a client without credentials connect, if others have any."""
    report = context.report
    if not context.has_credentials:
        report.ok("POST without credentials", "not tried, as --header gives none that could be left out")
        return
    client, observed = await context.connect(context.settings.subprotocols, anonymous=True)
    if client.refusal is None:
        await context.gateway.disconnect(client)
        report.warn(
            "POST without credentials",
            "the client is accepted",
            "refuse it with 401 or 403, unless anybody may connect",
        )
    elif _is_clean(observed):
        report.ok("POST without credentials", f"the client is refused with {client.refusal.answer}")
    else:
        report.fail(
            "POST without credentials",
            f"{observed.what()}, so the client gets {client.refusal.status}",
            'refuse a client with 401, 403 or a JSON object such as {"code": "NO_SUCH_USER"}',
        )


async def check_subprotocol(context: Context) -> None:
    """Offer a subprotocol that the backend cannot know: it must not choose another one."""
    client, observed = await context.connect([UNKNOWN_SUBPROTOCOL])
    if client.refusal is None:
        await context.gateway.disconnect(client)
        context.report.ok("subprotocol", "the backend chooses none that was not offered")
    elif isinstance(observed.verdict, Accepted):
        _report_unusable(context, observed.verdict, client.refusal, [UNKNOWN_SUBPROTOCOL])
    elif _is_clean(observed):
        context.report.ok("subprotocol", "a client that offers only an unknown one is refused")
    else:
        context.report.fail(
            "subprotocol", f"a client offered {UNKNOWN_SUBPROTOCOL}, and {observed.what()}", observed.mend()
        )


def _is_clean(observed: Observed) -> bool:
    """Return whether the backend refuses the client on purpose, as far as the answer shows."""
    outcome, verdict = observed.outcome, observed.verdict
    if not isinstance(outcome, Response) or not isinstance(verdict, Rejected) or verdict.unusable:
        return False
    return outcome.status // 100 == _CLIENT_ERROR or is_deliberate(outcome)


def _report_answer(context: Context, verdict: Accepted) -> None:
    """Report what else is in the answer to an accepted POST."""
    parts = [
        "no context" if verdict.context is None else f"a context of {counted(len(verdict.context), 'character')}",
        f"the groups {', '.join(verdict.groups)}" if verdict.groups else "no groups",
        "no subprotocol" if verdict.subprotocol is None else f"the subprotocol {verdict.subprotocol}",
    ]
    context.report.ok("POST answer", f"has {parts[0]}, {parts[1]} and {parts[2]}; all are optional")


def _report_unusable(context: Context, verdict: Accepted, refusal: HTTPError, offered: Sequence[str]) -> None:
    """Report an answer with "OK" that the gateway could not carry out, so that it refused the client."""
    if verdict.subprotocol is not None and verdict.subprotocol not in offered:
        context.report.fail(
            "subprotocol",
            f"the backend chose {verdict.subprotocol!r}, which the client did not offer, so the client gets 502",
            'answer one of request.subprotocols, or leave "subprotocol" out',
        )
    else:
        context.report.fail(
            "POST",
            f"the backend accepted the client, but the client gets {refusal.status}: {refusal.message}",
            "answer at most MAX_GROUPS groups, and do not close the client before the answer",
        )


def _mend_refusal(context: Context, observed: Observed) -> str:
    """Return what to do about a client that should be accepted."""
    verdict, outcome = observed.verdict, observed.outcome
    if not isinstance(outcome, Response) or (isinstance(verdict, Rejected) and verdict.unusable):
        return observed.mend()
    signature = "API_SECRET has to be the secret that the backend verifies with" if context.settings.api_secret else ""
    if outcome.status in _REFUSALS or observed.is_success:
        own = "let the check connect as a client would: --path, --header"
        return joined(observed.mend(), own, signature if outcome.status in _REFUSALS else "")
    return observed.mend()
