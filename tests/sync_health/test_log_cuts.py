"""Blocks of lines taken apart at many places at once: the same as one line after the other, whatever stands beside what."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from include.sync_health.log_cuts import MOST_TRIED, Layout, cut_block
from include.sync_health.log_reader import LineReader
from include.sync_health.monolog_lines import Kind
from include.sync_health.monolog_times import NO_TIME, instant_of, microseconds_of

TIME = "2026-03-01T08:00:00.123456+01:00"


def request(message: str, *, credential: int = 7, page: int = 1, path: str = "/customers") -> bytes:
    return (
        f'{{"message":"{message}","context":{{"endpoint":"{path}","params":{{"page":{page}}},"credential_id":{credential}}},'
        f'"level":200,"channel":"servicetitan","datetime":"{TIME}","extra":{{"process_id":1}}}}'
    ).encode()


@given(st.lists(st.sampled_from((b"", b"x", b"\xc3\xa9", b"seven b", b"eight by", b"{}", b"z" * 130)), max_size=40))
@example([b"", b"", b"", b""])
@example([b"eight by", b"eight by", b""])
def test_each_line_is_found_however_near_to_the_next(lines: list[bytes]) -> None:
    block = b"\n".join(lines)
    whole = block.split(b"\n")[:-1] if block.endswith(b"\n") or not block else block.split(b"\n")

    cut = cut_block(block, Layout())

    strays = [block[begin:end] for begin, end in zip(cut.stray_begin.tolist(), cut.stray_end.tolist(), strict=True)]
    assert cut.lines == len(whole)
    assert strays == [line for line in whole if line[:1] not in (b"{", b"[")]


@given(
    st.lists(
        st.tuples(st.integers(0, len(TIME) - 1), st.sampled_from("0123456789:-+.TZ /\x00a")).map(
            lambda change: TIME[: change[0]] + change[1] + TIME[change[0] + 1 :]
        ),
        min_size=1,
        max_size=20,
    )
)
@example(["2026-03-01T24:00:00.000000+00:00", "2026-02-28T23:59:59.999999-12:00"])
def test_a_time_read_among_others_is_the_one_read_by_itself_or_none(texts: list[str]) -> None:
    found = microseconds_of("".join(texts).encode())

    for text, instant in zip(texts, found.tolist(), strict=True):
        assert instant in (NO_TIME, instant_of(text, zone=UTC))
    assert microseconds_of(TIME.encode()).tolist() == [instant_of(TIME, zone=UTC)]
    assert instant_of(TIME, zone=UTC) == datetime(2026, 3, 1, 7, tzinfo=UTC).timestamp() * 1_000_000 + 123_456


def test_more_kinds_of_lines_than_any_client_has_hide_none_of_its_own() -> None:
    strangers = [request(f"ServiceTitan API {number:08d}") for number in range(3 * MOST_TRIED)]
    ours = [request("ServiceTitan API GET request", credential=number) for number in range(50)]
    block = b"\n".join(line for pair in zip(strangers, ours, strict=False) for line in pair) + b"\n"
    reader = LineReader(zone=UTC)

    first, again = reader.read(b"\n".join(strangers) + b"\n"), reader.read(block)

    assert len(first.at) == 0
    assert again.kind.tolist() == [Kind.REQUEST] * 50
    assert [again.credentials[code] for code in again.credential.tolist()] == [str(number) for number in range(50)]


def test_distances_that_were_seen_once_do_not_push_out_those_that_recur() -> None:
    layout = Layout()
    usual = request("ServiceTitan API GET request")
    for width in range(4 * MOST_TRIED):
        cut_block(b"\n".join([usual, usual, request("ServiceTitan API GET request", path="/" + "p" * width)]), layout)

    (distances,) = layout.params.values()
    assert len(distances) <= 2 * MOST_TRIED
    assert next(iter(distances)) == usual.index(b'"params":')
    assert np.all(cut_block(b"\n".join([usual] * 9), layout).has_params)


def test_lines_that_differ_in_numbers_of_paths_alone_are_learned_once() -> None:
    reader = LineReader(zone=UTC)
    block = b"\n".join(
        request("ServiceTitan API GET request", path=f"/customers/{number}/jobs/{number + 1}") for number in range(500)
    )

    events = reader.read(block)

    assert set(events.endpoints) >= {"/customers/{id}/jobs/{id}"}
    assert len(set(events.endpoint.tolist())) == 1
    assert len(events.at) == 500
