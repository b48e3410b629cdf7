"""Chat servers on the loopback that answer what the clients' own types demand, and misbehave when told to."""

from __future__ import annotations

import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import ollama
from ollama._types import ChatRequest
from openai.types.chat import ChatCompletion, CompletionCreateParams
from pydantic import TypeAdapter

from workspace.facts import DimensionSpec, ModelSpec, RunSpec, Settings

DIGEST = "4f" * 32
NAME = "small:latest"
_PROPERTY = re.compile(
    r'^- "(\w+)": (one of|a list of all that apply of|a whole number from|one short sentence)', re.MULTILINE
)


class FakeServer:
    """Says the word of the instructions that stands in the row, with `sure` probability; counts what it is asked.

    What goes wrong is set by the attributes, at any time.
    """

    def __init__(self) -> None:
        self.logprobs = True
        self.schema = True
        self.sure = 0.7
        self.seconds = 0.0  # for each reply
        self.serial = False
        self.fail: list[tuple[int, dict[str, str]]] = []  # status and headers of the next answers, first one first
        self.always: tuple[int, str] | None = None  # status and words of every answer
        self.unreadable = 0  # next JSON replies that are none
        self.dies_after: int | None = None  # requests to the model, then it hangs up on everybody
        self.padding = 0  # bytes of nonsense in every answer
        self.raw: bytes | None = None  # instead of every answer
        self.usage = True
        self.room = 10**9  # characters of a prompt
        self.asked: list[dict[str, Any]] = []  # requests to the model
        self.headers: list[Mapping[str, str]] = []
        self.most_at_once = 0
        self.on_chat: Callable[[], None] = lambda: None
        self._at_once = 0
        self._one = threading.Lock()
        self._counting = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one piece: the system waits 40 ms before it acknowledges half of one

            def do_GET(self) -> None:
                fake.handle(self, {})

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                fake.handle(self, json.loads(self.rfile.read(length) or b"{}"))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- one request --------------------------------------------------------------------------------------

    def handle(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.headers.append(dict(handler.headers.items()))
        chat = handler.path.endswith(("/chat", "/completions"))
        if chat and body.get("messages"):
            with self._counting:
                self.asked.append(body)
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                dead = self.dies_after is not None and len(self.asked) > self.dies_after
                failing = self.fail.pop(0) if self.fail else None
            try:
                self.on_chat()
                if dead:
                    handler.close_connection = True
                    handler.connection.shutdown(socket.SHUT_RDWR)
                    return
                if failing is not None:
                    self.send(handler, failing[0], self.error("come back later"), failing[1])
                    return
                if self.always is not None:
                    self.send(handler, self.always[0], self.error(self.always[1]))
                    return
                if sum(len(one["content"]) for one in body["messages"]) > self.room:
                    self.send(handler, 400, self.error("the prompt exceeds the available context size"))
                    return
                if self.seconds:
                    if self.serial:
                        with self._one:
                            time.sleep(self.seconds)
                    else:
                        time.sleep(self.seconds)
            finally:
                with self._counting:
                    self._at_once -= 1
        answer = self.raw if self.raw is not None and chat else self.answer(handler.path, body)
        if answer is None:
            self.send(handler, 404, self.error("no such thing"))
        else:
            self.send(handler, 200, answer + b" " * self.padding)

    def send(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()

    # -- what it says -------------------------------------------------------------------------------------

    def answer(self, path: str, body: dict[str, Any]) -> bytes | None:
        raise NotImplementedError

    def error(self, words: str) -> bytes:
        raise NotImplementedError

    def says(self, body: dict[str, Any], *, json_wanted: bool) -> str:
        messages = body["messages"]
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        row = messages[1 if system else 0]["content"].partition("\n\n")[0]
        if not json_wanted and "JSON object" not in system:
            return _word(_listed(system), row)
        with self._counting:
            self.unreadable -= 1
            if self.unreadable >= 0:
                return "I would rather talk about the weather."
        last = messages[-1]["content"] if messages[-1]["content"].startswith("That could not") else system
        return json.dumps(_object(last, row), ensure_ascii=False)

    def tokens(self, body: dict[str, Any], top: int) -> list[dict[str, Any]]:
        """One token: the word it says, and the likeliest beside it, the others sharing what is left."""
        messages = body["messages"]
        words = _listed(messages[0]["content"])
        said = _word(words, messages[-1]["content"])
        left = (1 - self.sure) * 0.5 / max(1, len(words) - 1)
        chances = {word: self.sure if word == said else left for word in words} | {"The": (1 - self.sure) * 0.5}
        ranked = sorted(chances.items(), key=lambda one: -one[1])[:top]
        listed = [{"token": token, "logprob": math.log(max(chance, 1e-12))} for token, chance in ranked]
        return [{**listed[0], "top_logprobs": listed}]


def _listed(system: str) -> list[str]:
    return re.findall(r"^- ([^\s:\"][^:\n]*)", system, re.MULTILINE) or ["OK"]


def _word(words: list[str], row: str) -> str:
    return next((word for word in words if word.casefold() in row.casefold()), words[0])


def _object(instructions: str, row: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for line in instructions.splitlines():
        if not (seen := _PROPERTY.match(line)):
            continue
        name, kind = seen.groups()
        listed = re.search(r"\[.*?\](?=$|, \[\])", line)
        words = json.loads(listed.group()) if listed else []
        if kind == "one of":
            made[name] = _word(words, row)
        elif kind == "a whole number from":
            made[name] = int((re.search(r"\d+", row) or re.search(r"\d+", "5")).group())  # type: ignore[union-attr]
        elif kind == "one short sentence":
            made[name] = "The words say so."
        else:
            made[name] = [word for word in words if word.casefold() in row.casefold()]
    return made


class FakeOllama(FakeServer):
    """Speaks Ollama's API: requests are checked by its client's types, answers are made of them."""

    models: tuple[tuple[str, str, int], ...] = ((NAME, DIGEST, 1234),)
    capabilities: tuple[str, ...] = ("completion",)
    pulled: tuple[dict[str, Any], ...] = ()

    def error(self, words: str) -> bytes:
        return json.dumps({"error": words}).encode()

    def answer(self, path: str, body: dict[str, Any]) -> bytes | None:
        if path == "/api/tags":
            models = [
                ollama.ListResponse.Model(model=name, digest=digest, size=size)  # type: ignore[arg-type]
                for name, digest, size in self.models
            ]
            return ollama.ListResponse(models=models).model_dump_json().encode()
        if path == "/api/version":
            return b'{"version":"0.12.11"}'
        if path == "/api/show":
            shown = ollama.ShowResponse(
                capabilities=list(self.capabilities), model_info={"llama.context_length": 8192}
            )
            return shown.model_dump_json(by_alias=True).encode()
        if path == "/api/pull":
            return b"\n".join(json.dumps(one).encode() for one in self.pulled)
        if path == "/api/chat":
            return self._chat(body)
        return None

    def _chat(self, body: dict[str, Any]) -> bytes:
        ChatRequest.model_validate(body)
        text = self.says(body, json_wanted=bool(body.get("format"))) if body["messages"] else ""
        response = ollama.ChatResponse(
            model=body["model"],
            done=True,
            done_reason="stop",
            message=ollama.Message(role="assistant", content=text),
            prompt_eval_count=20 if self.usage else None,
            eval_count=3 if self.usage else None,
        )
        if body.get("logprobs") and self.logprobs:
            top = body.get("top_logprobs") or 0
            response.logprobs = TypeAdapter(list[ollama._types.Logprob]).validate_python(self.tokens(body, top))
        return response.model_dump_json(exclude_none=True).encode()

    def send(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        if status == 200 and (self.asked[-1:] or [{}])[0].get("top_logprobs", 0) > 20 and b"logprob" in body:
            status, body = 400, self.error("top_logprobs must be between 0 and 20")
        super().send(handler, status, body, headers)


class FakeOpenAI(FakeServer):
    """Speaks OpenAI's chat API: requests are checked by its client's types, answers are made of them."""

    models: tuple[str, ...] = ("small",)
    most_top = 20

    def error(self, words: str) -> bytes:
        return json.dumps({"error": {"message": words, "type": "error", "code": None}}).encode()

    def answer(self, path: str, body: dict[str, Any]) -> bytes | None:
        if path == "/v1/models":
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "fake"} for name in self.models]
            return json.dumps({"object": "list", "data": listed}).encode()
        if path != "/v1/chat/completions" or body["model"] not in self.models:
            return None
        TypeAdapter(CompletionCreateParams).validate_python(body)
        schema = (body.get("response_format") or {}).get("json_schema")
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": self.says(body, json_wanted=schema is not None)},
        }
        if body.get("logprobs") and self.logprobs:
            choice["logprobs"] = {
                "content": [_openai_token(one) for one in self.tokens(body, body["top_logprobs"])]
            }
        whole: dict[str, Any] = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
        }
        if self.usage:
            whole["usage"] = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        return ChatCompletion.model_validate(whole).model_dump_json(exclude_none=True).encode()

    def handle(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        refused = (body.get("top_logprobs") or 0) > self.most_top or (
            body.get("response_format") and not self.schema
        )
        if refused:
            self.send(handler, 400, self.error("not supported"))
        else:
            super().handle(handler, body)


def _openai_token(one: dict[str, Any]) -> dict[str, Any]:
    top = [{**other, "bytes": None} for other in one["top_logprobs"]]
    return {"token": one["token"], "logprob": one["logprob"], "bytes": None, "top_logprobs": top}


# -- what is asked of them ----------------------------------------------------------------------------------

FEELINGS = ("Glad", "Angry", "Calm")
SYSTEM = "What does it say?\nAnswer with one of these words:\n" + "\n".join(f"- {word}" for word in FEELINGS)


def feeling(name: str = "feeling", **more: Any) -> DimensionSpec:
    labels = tuple(word.lower() for word in FEELINGS)
    return DimensionSpec(name, "single", labels, FEELINGS, SYSTEM, "{text}", **more)


def quality(**more: Any) -> DimensionSpec:
    figures = tuple(str(number) for number in range(11))
    return DimensionSpec("quality", "score", figures, figures, SYSTEM, "{text}", **more)


def topics(**more: Any) -> DimensionSpec:
    return DimensionSpec("topics", "multi", ("food", "sport"), ("Food", "Sport"), SYSTEM, "{text}", **more)


def run_of(model: ModelSpec, *dimensions: DimensionSpec, run_id: str = "run", **settings: Any) -> RunSpec:
    return RunSpec(
        run_id, "task", "task", "prompt", model, dimensions or (feeling(),), settings=Settings(**settings)
    )
