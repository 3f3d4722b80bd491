"""`/v1/chat/completions` and `/v1/completions`: one call from its first byte to its last.

admit → read → route → authorize → cache → place → pass through, or run a policy → ended
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from suffice.backends.openai import OpenAIBackend
from suffice.backends.placement import Placement
from suffice.backends.router import Affinity
from suffice.backends.sse import DONE
from suffice.core.completions import total_usage
from suffice.core.errors import InputError, SufficeError, without_frames
from suffice.executors.engine_time import TimedSamples
from suffice.executors.live import Event, Settled
from suffice.gateway.calls import Call, Hook
from suffice.gateway.certificates.audits import Audit, Auditor
from suffice.gateway.certificates.guarded_policy import GuardedPolicy, is_switched_off
from suffice.gateway.certificates.live_policy import LivePolicy
from suffice.gateway.certificates.shadow_runs import Shadower
from suffice.gateway.config import BYPASS
from suffice.gateway.connection.cancellation import Shutdown, left_at_once, stopping
from suffice.gateway.connection.client import EVENT_STREAM, JSON, Client, ours
from suffice.gateway.conversation import affinity_of
from suffice.gateway.endpoints import CHAT, COUNT_TOKENS, TEXT, endpoint_of, query_upstream
from suffice.gateway.fallbacks import answered
from suffice.gateway.native import pass_on
from suffice.gateway.outgoing import outgoing_of
from suffice.gateway.pass_through import UpstreamErrorResponse, forward, pass_error
from suffice.gateway.passed_on import not_served, understand
from suffice.gateway.policy_router import AUTO, NAMESPACE, PolicyRoute
from suffice.gateway.run_policy import Job, frames, outcomes, tighter
from suffice.gateway.service import Service
from suffice.gateway.translate.client import TranslatedClient, speaks_chat
from suffice.gateway.wire.headers import REQUEST_ID, request_id_of
from suffice.gateway.wire.json_body import check_policy_size, check_size, parse_json
from suffice.gateway.wire.receipt import PREFIX, header_text, headers
from suffice.gateway.wire.requests import (
    NO_BUDGET,
    Ask,
    default_format,
    parse_chat,
    parse_completion,
    wants_stream,
    wishes_of,
)
from suffice.gateway.wire.responses import Renderer
from suffice.gateway.wire.safe_regex import extractor_of
from suffice.policies.models import models_of
from suffice.policies.tool_plan.choose import Choose
from suffice.tools.toolbox import Toolbox

logger = logging.getLogger("suffice.gateway")

_ANY = Affinity()  # of a call to the only upstream: there is nothing to choose


class Completions:
    """The ASGI application behind both paths."""

    def __init__(self, service: Service, hooks: Sequence[Hook], ending: Shutdown) -> None:
        self.service = service
        self.auditor = Auditor(hooks)
        self.shadower = Shadower(hooks, waiting=lambda: self.service.places.waiting)
        self._hooks = tuple(hooks)
        self._admit = _that_do(hooks, "admit")
        self._authorize = _that_do(hooks, "authorize")
        self._happened = [hook.happened for hook in _that_do(hooks, "happened")]
        self._began = _that_do(hooks, "began")
        self._ended = _that_do(hooks, "ended")
        self._ending = ending

    def _price(self) -> float | None:
        """Lambda of `auto`, if a hook steers it."""
        return next((p for hook in self._hooks if (p := hook.price()) is not None), None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call, whatever happens."""
        address = scope.get("client")
        endpoint = endpoint_of(scope["path"])
        call = Call(
            path=scope["path"] if endpoint is None else endpoint.path,
            endpoint=endpoint,
            query=query_upstream(scope.get("query_string", b"")),
            headers=scope["headers"],
            client=address[0] if address else None,
        )
        call.own_id = request_id_of(call.header(REQUEST_ID))
        kind = "chat" if endpoint is None else endpoint.kind
        make = Client if kind == "chat" or speaks_chat(kind) else partial(TranslatedClient, kind)
        client: Client = make(
            call,
            scope,
            receive,
            send,
            hooks=self._began,
            limits=self.service.config.traffic,
            max_body_bytes=self.service.config.max_body_bytes,
            ending=self._ending,
        )
        try:
            await self._serve(call, client, scope)
        except SufficeError as error:
            await client.fail(without_frames(error))
        except ClientDisconnect:
            call.status = call.status or 499  # nobody reads it; the log does
            call.left, call.error = True, "client_left"
        except asyncio.CancelledError:
            call.status = call.status or 499
            call.error = "cancelled"
            raise
        except Exception:
            # A bug of ours, of whatever kind: the log has its trace, the ledger its code, and the
            # client an error of its own instead of a hanging connection.
            logger.exception("call %s failed", call.id)
            call.error = "internal_error"
            if client.began and not client.is_stream:
                raise
            await client.fail(SufficeError("internal error, see the gateway's log"))
        finally:
            call.ended_s = call.elapsed_s()
            if call.timed is not None:
                call.timed.close()
            for hook in self._ended:
                hook.ended(call)
            if call.afterwards is not None:
                call.afterwards()

    async def _serve(self, call: Call, client: Client, scope: Scope) -> None:
        if self._ending.draining:
            raise stopping()
        connection = scope.get("suffice.connection")
        if connection is not None and connection.others_leave and await left_at_once(connection):
            raise ClientDisconnect
        for hook in self._admit:
            await hook.admit(call)
        body = client.body_at_hand()
        call.body = await client.body() if body is None else body
        service = self.service
        service.calls += 1
        try:
            async with client.attended():
                await self._answer_by(service, call, client)
        finally:
            service.calls -= 1

    async def _answer_by(self, service: Service, call: Call, client: Client) -> None:
        route = await self._understand(service, call)
        for hook in self._authorize:
            await hook.authorize(call)
        key = service.cache.key_of(call, switched_off=is_switched_off(route.policy))
        if key is not None and await self._from_cache(service, client, key):
            return
        if key is not None:
            # Before the client can ask again, so that the same question finds it.
            client.when_whole = partial(self._keep, service, call, key)
        certified = isinstance(route.policy, GuardedPolicy)
        rule = None if certified else service.fallbacks.get(call.target)
        async with service.places.taken(call):
            try:
                if rule is None:
                    await self._answer(service, client, route)
                else:
                    await answered(client, rule, partial(self._answer, service, client, route))
            except UpstreamErrorResponse as error:
                await pass_error(client, error)

    async def _understand(self, service: Service, call: Call) -> PolicyRoute:
        if call.endpoint is None or call.endpoint.kind == "other":
            return await understand(call, service.pool, service.config.traffic)
        value = call.value = parse_json(call.body, service.config.traffic)
        check_policy_size(value, service.config.traffic)
        if call.endpoint.model is not None:
            value.setdefault("model", call.endpoint.model)
        model = value.get("model")
        if not isinstance(model, str) or not model:
            raise InputError("model: name an upstream's model, suffice/auto or suffice/<policy>")
        wishes = wishes_of(value)
        may_be_auto = AUTO in (service.config.policy, wishes.policy, model.removeprefix(NAMESPACE))
        price = self._price() if may_be_auto else None
        route = service.arms.choose(model, wishes, price=price)
        if route.policy is None and wishes.policy != BYPASS and self._is_biased(service, value):
            # The upstream would not read the effort: a bias is made of it here.
            route = replace(route, policy=service.arms.plain)
        if route.model is None:
            chats = route.policy is not None and call.path != TEXT
            route = replace(route, model=await service.pool.default_model(chats=chats))
        call.model, call.target = model, route.model or ""
        call.named = (model, *service.arms.named_by(wishes))
        call.arm = "bypass" if route.policy is None else route.policy.name
        call.stream = wants_stream(value)
        priority = value.get("priority")
        if isinstance(priority, int):
            call.priority = priority
        return route

    @staticmethod
    def _is_biased(service: Service, value: dict[str, Any]) -> bool:
        """Whether an effort was asked for that becomes a bias on an upstream's first token."""
        return service.chooses_modes and _effort(value) is not None

    async def _from_cache(self, service: Service, client: Client, key: bytes) -> bool:
        call = client.call
        entry = service.cache.find(key)
        call.cache = "miss" if entry is None else "hit"
        if entry is None:
            if call.kept is None:
                call.kept = bytearray()
            return False
        known = {**entry.headers, **ours(arm=header_text(call.arm), cache="hit")}
        call.answered_by = entry.headers.get(PREFIX + "model")
        await client.answer(200, entry.body, entry.content_type, known)
        return True

    @staticmethod
    def _keep(service: Service, call: Call, key: bytes) -> None:
        if call.kept is not None and call.fallback is None:
            kind = EVENT_STREAM if call.stream else JSON
            who = call.outcomes[0].completion.model if call.outcomes else call.answered_by
            known = ours(model=header_text(who)) if who else {}
            service.cache.keep(key, bytes(call.kept), kind, known)

    async def _answer(self, service: Service, client: Client, route: PolicyRoute) -> None:
        call = client.call
        pool = service.pool
        # An unknown model is an answer of its own; some endpoints ask for none.
        able = await pool.serving(call.target) if call.target else pool.backends
        affinity = _ANY if len(pool.backends) == 1 else affinity_of(call)
        headers = service.headers.upstream(call.headers, call.request_id)
        if route.policy is None:
            http = [backend for backend in able if isinstance(backend, OpenAIBackend)]
            if http:
                go = forward if type(client) is Client and call.path != COUNT_TOKENS else pass_on
                await go(client, pool.placed(affinity), http, outgoing_of(service, call, headers))
                return
        most_bytes = service.config.traffic.max_response_bytes
        placed = pool.placed(affinity, headers=headers, most_bytes=most_bytes)
        if call.endpoint is None or call.endpoint.kind == "other":
            raise not_served(call)
        call.sampled_by = placed.went
        await self._run(service, client, route, placed)

    @staticmethod
    def _asked(client: Client) -> Ask:
        """The question that a policy answers."""
        call = client.call
        if isinstance(client, TranslatedClient):
            return parse_chat(client.translate(call.value))
        return parse_chat(call.value) if call.path == CHAT else parse_completion(call.value)

    async def _run(
        self, service: Service, client: Client, route: PolicyRoute, placed: Placement
    ) -> None:
        """Answer with a policy, or with a model of this process."""
        call, config = client.call, service.config
        check_size(call.value, config.traffic)
        ask = self._asked(client)
        if ask.n > config.max_choices:
            raise InputError(f"n: at most {config.max_choices} choices, got {ask.n}")
        renderer = Renderer.of(ask)
        policy = route.policy or service.arms.plain
        if isinstance(policy, Choose):
            policy = policy.priced(config.prices.of(call.target))
            route = replace(route, policy=policy)
        if isinstance(policy, LivePolicy):
            policy = policy.of(ask.request)
            route = replace(route, policy=policy)
        toolbox = await service.tools.toolbox(ask.wishes.tools, policy, choices=ask.n)
        job = self._job(service, ask, route, call, placed, toolbox=toolbox)
        if not ask.stream:
            call.outcomes = await outcomes(job)
            call.usage = total_usage(outcome.usage for outcome in call.outcomes)
            data = orjson.dumps(renderer.whole(call.outcomes))
            await client.answer(200, data, JSON, headers(call.outcomes))
            return
        known = ours(arm=job.policy.name)
        if len(asks := models_of(job.policy)) < 2:  # else it is not known yet who will answer
            known |= ours(model=header_text(asks[0] if asks else job.model))
        with client.keep_alive(config.keep_alive_s, known):
            async with aclosing(frames(job, renderer, call.outcomes)) as events:
                async for event in events:
                    if not client.began:
                        await client.begin_stream(known)
                    await client.write(event)
        call.usage = total_usage(outcome.usage for outcome in call.outcomes)
        await client.end(DONE)

    def _job(
        self,
        service: Service,
        ask: Ask,
        route: PolicyRoute,
        call: Call,
        placed: Placement,
        *,
        toolbox: Toolbox | None,
    ) -> Job:
        config = service.config
        wanted = ask.request.answer_format or default_format(ask.request, config.answer_format)
        # "text" says that answers are free-form although the operator's default is not.
        answer_format = None if wanted == "text" else wanted
        priority = ask.request.priority
        if priority is None and config.traffic.priority_by_age:
            priority = int(call.began_unix_s * 1e3)
        question = replace(
            ask.request, model=call.target, answer_format=answer_format, priority=priority
        )
        tell, policy = self._happened, route.policy or service.arms.plain
        costs = service.cost_model()
        guard = policy if isinstance(policy, GuardedPolicy) else None
        live = isinstance(policy, LivePolicy)
        if live and call.timed is None:
            call.timed = TimedSamples()
        if guard is not None:
            # The policy file is enough: what neither request nor operator says, it does.
            question = guard.filled(question)
            if wanted == "text":
                question = replace(question, answer_format=None)

        def happened(choice: int, event: Event) -> None:
            for hear in tell:
                hear(call, choice, event)
            if call.timed is not None:
                call.timed.see(choice, event)
            if shadow is not None:
                shadow.see(event)
                if isinstance(event, Settled):
                    shadow.outcome = event.outcome
            if guard is not None and choice == 0:  # choices answer one question: it counts once
                self._seen(service, guard, audit, call, event)

        job = Job(
            policy=policy,
            request=question,
            backend=placed,
            budget=tighter(tighter(ask.budget, config.budget), call.budget or NO_BUDGET),
            extract=extractor_of(question, service.comparisons.comparing(call.asker)),
            score=service.arms.score,
            cost_model=costs,
            choices=ask.n,
            happened=happened if tell or guard or live else None,
            reached=call.reached,
            compare=service.comparison(route, question, costs, toolbox),
            audited=None if guard is None else partial(service.lengths.audited, guard),
            unstreamed_tokens=config.unstreamed_tokens,
            toolbox=toolbox,
            limits=config.tools.limits,
        )
        # Calls of tools are not made a second time to see what the baseline would have said.
        audit = None if toolbox else self.auditor.chosen(job, config.audit_share)
        shadow = self.shadower.chosen(job)
        if shadow is not None:
            call.afterwards = partial(
                self.shadower.begin, shadow, call, service.pool, config.budget
            )
        return job

    def _seen(
        self, service: Service, guard: GuardedPolicy, audit: Audit | None, call: Call, event: Event
    ) -> None:
        """Tell the certificate's monitor, and the audit if there is one, what happened."""
        if audit is not None:
            audit.see(event)
        if isinstance(event, Settled):
            call.zeros = guard.observe(event.outcome)
            if audit is not None:
                budget = service.config.budget
                self.auditor.begin(audit, call, event.outcome, service.pool, budget)


def _that_do(hooks: Sequence[Hook], method: str) -> tuple[Hook, ...]:
    return tuple([hook for hook in hooks if hook.does(method)])


def _effort(value: Mapping[str, Any]) -> Any:
    """An effort that was asked for, in any protocol's way."""
    for place in ("reasoning", "output_config"):
        inner = value.get(place)
        if isinstance(inner, Mapping) and inner.get("effort") is not None:
            return inner["effort"]
    return value.get("reasoning_effort")
