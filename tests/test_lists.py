"""Lists: look-ups, networks, expiry, effects, their files, and BigQuery."""

from __future__ import annotations

import gzip
import ipaddress
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery as google_bigquery
from hypothesis import given
from hypothesis import strategies as st
from scored import HOUR, NOON_MS, login, payment, record, rule

from fraud_pipeline.cli import main
from fraud_pipeline.emulators.bigquery import Emulator
from fraud_pipeline.errors import UsageError
from fraud_pipeline.rules import read_rules
from fraud_pipeline.rules.files import beside, read_table
from transforms.list_file import MAX_INLINE_ENTRIES, ListError, Outside, RawEntry, load_lists, references
from transforms.lists import NEVER_MS, NO_LISTS, Entry, ListHead, ListSet, ValueList, parse_address, parse_network
from transforms.rule_file import RuleError, load_rules
from transforms.rules import RuleSet
from transforms.scoring import score

ENTRY = Entry(NEVER_MS, "tests")


def value_list(field: str, *values: str, kind: Any = "deny", name: str = "thieves", **options: Any) -> ValueList:
    return ValueList(ListHead(name, kind, field, **options), [(value, ENTRY) for value in values])


def ruled(*lists: ValueList, when: str = "event_type == 'login'", body: str = "") -> RuleSet:
    """One rule of weight 0.2 and these lists."""
    return load_rules("rules:\n" + rule("one", when, 0.2) + body, lists=ListSet(lists))


def load(text: str, **files: str | list[RawEntry]) -> ListSet:
    def read_file(name: str) -> bytes:
        found = files[name.replace(".", "_")]
        assert isinstance(found, str)
        return found.encode("utf-8", "surrogateescape")

    def read_table(name: str) -> list[RawEntry]:
        found = files[name.replace(".", "_")]
        assert isinstance(found, list)
        return found

    return load_lists(text, Outside(read_file, read_table), "lists.yaml")


# ------------------------------------------------------------------------------ look-ups


ADDRESSES = st.one_of(
    st.ip_addresses(v=4, network="192.0.2.0/28"),
    st.ip_addresses(v=4),
    st.ip_addresses(v=6, network="2001:db8::/124"),
    st.ip_addresses(v=6, network="::ffff:192.0.2.0/124"),
).map(str)
NETWORKS = st.one_of(
    ADDRESSES,
    st.builds(
        lambda address, length: str(
            ipaddress.ip_network(f"{address}/{length if ':' in address else length // 4}", strict=False)
        ),
        ADDRESSES.filter(lambda address: not address.startswith("::ffff")),
        st.integers(0, 128),
    ),
)


@given(st.lists(NETWORKS, max_size=8), ADDRESSES)
def test_an_address_is_on_the_list_if_a_network_on_it_contains_it(networks: list[str], address: str) -> None:
    def plain(text: str) -> Any:
        network = ipaddress.ip_network(text)
        mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
        return ipaddress.ip_network(mapped) if mapped is not None and network.prefixlen == 128 else network

    wanted = plain(address).network_address
    expected = any(wanted.version == n.version and wanted in n for n in map(plain, networks))
    assert (value_list("ip", *networks).find(address, 0) is not None) is expected


@pytest.mark.parametrize("text", ["", "localhost", "192.0.2", "192.0.2.1/24", "1:2", "192.0.2.256", " 192.0.2.1", "\0"])
def test_what_is_no_address_is_on_no_list(text: str) -> None:
    assert parse_address(text) is None
    assert value_list("ip", "0.0.0.0/0", "::/0").find(text, 0) is None


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("192.0.2.1/24", "write 192.0.2.0/24"),
        ("192.0.2.0/33", "write an address such as 192.0.2.7 or a network such as 192.0.2.0/24"),
        ("example.org", "write an address"),
        ("", "write an address"),
    ],
)
def test_what_is_no_network_is_refused_with_the_fix(text: str, fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        parse_network(text)


def test_an_entry_counts_until_its_expiry_in_event_time() -> None:
    head = ListHead("thieves", "deny", "user_id")
    made = ValueList(head, [("u1", Entry(NOON_MS + HOUR, "case 7"))])
    assert made.find("u1", NOON_MS + HOUR - 1) == Entry(NOON_MS + HOUR, "case 7")
    assert made.find("u1", NOON_MS + HOUR) is None
    both = ruled(made)
    assert [score(record(login(at)), both).action for at in (HOUR - 1, HOUR)] == ["block", "allow"]


def test_a_value_that_comes_twice_counts_until_the_later_expiry() -> None:
    early, late = ("u1", Entry(NOON_MS, "a")), ("u1", Entry(NOON_MS + HOUR, "b"))
    for entries in ([early, late], [late, early]):
        made = ValueList(ListHead("thieves", "deny", "user_id"), entries)
        assert made.size == 1
        assert made.find("u1", NOON_MS) == late[1]


def test_a_wider_network_still_counts_when_a_narrower_one_has_ended() -> None:
    entries = [("192.0.2.7", Entry(NOON_MS, "short")), ("192.0.2.0/24", ENTRY)]
    made = ValueList(ListHead("nets", "deny", "ip"), entries)
    assert made.find("192.0.2.7", NOON_MS - 1) == entries[0][1]
    assert made.find("192.0.2.7", NOON_MS) == ENTRY


# ------------------------------------------------------------------------------ effects


@pytest.mark.parametrize(
    ("lists", "weight", "expected"),
    [
        (("deny",), 0.2, "block"),
        (("watch",), 0.2, "review"),
        (("allow",), 0.95, "allow"),
        (("reference",), 0.2, "allow"),
        (("reference",), 0.95, "block"),
        (("deny", "allow"), 0.2, "block"),
        (("watch", "allow"), 0.2, "allow"),
        (("watch",), 0.95, "block"),
    ],
)
def test_a_list_has_the_effect_of_its_kind(lists: tuple[str, ...], weight: float, expected: str) -> None:
    made = [value_list("user_id", "u1", kind=kind, name=kind) for kind in lists]
    rules = load_rules("rules:\n" + rule("one", "event_type == 'login'", weight), lists=ListSet(made))
    result = score(record(login()), rules)
    assert result.action == expected
    assert result.lists_version == rules.lists.version != ""
    on = {fired.rule_id: fired for fired in result.fired if fired.rule_id != "one"}
    assert set(on) == {f"list.{kind}" for kind in lists if kind != "reference"}
    assert all(fired.inputs == ("user_id",) for fired in on.values())


def test_who_is_on_no_list_is_scored_as_ever() -> None:
    rules = ruled(value_list("user_id", "u2"), value_list("card_id", "c1", name="cards"), when="is_new_ip")
    result = score(record(payment(0, card_id="c2")), rules)
    assert (result.fired, result.score, result.action) == ((), 0.0, "allow")
    assert score(record(payment(0)), rules).fired == (), "an event without a card is on no list of cards"


def test_a_deny_list_goes_before_a_rule_that_allows_and_a_rule_that_blocks_does_not() -> None:
    when = "event_type == 'login'"
    text = "rules:\n" + rule("ok", when).replace("    weight: 0.5\n", "    action: allow\n")
    assert score(record(login()), load_rules(text)).action == "allow"
    denied = load_rules(text, lists=ListSet([value_list("user_id", "u1")]))
    assert score(record(login()), denied).action == "block"
    blocking = load_rules(text + rule("stop", when) + "    action: block\n")
    assert score(record(login()), blocking).action == "allow"


def test_a_list_on_trial_is_recorded_and_has_no_effect() -> None:
    trial = value_list("user_id", "u1", mode="shadow")
    result = score(record(login()), ruled(trial))
    assert (result.action, [f.rule_id for f in result.shadow]) == ("allow", ["list.thieves"])
    assert [f.rule_id for f in result.fired] == ["one"]


def test_the_most_severe_comes_first_rules_and_lists_alike() -> None:
    rules = ruled(value_list("user_id", "u1"), value_list("ip", "192.0.2.0/24", kind="watch", name="nets"))
    assert [f.rule_id for f in score(record(login()), rules).fired] == ["list.thieves", "one", "list.nets"]


def test_a_condition_may_ask_for_a_list() -> None:
    nets = value_list("ip", "192.0.2.0/24", kind="reference", name="anonymizers")
    rules = ruled(nets, when="on_list_anonymizers && is_new_ip")
    assert rules.evaluate(record(login(), is_new_ip=True))
    assert not rules.evaluate(record(login(), is_new_ip=False))
    assert not rules.evaluate(record(login(ip="198.51.100.1"), is_new_ip=True))
    assert not rules.evaluate(record(login(ip=None), is_new_ip=True))
    row = {"event_type": "login", "ip": "192.0.2.9", "is_new_ip": True, "event_time_ms": NOON_MS}
    assert rules.evaluate(row)
    assert not rules.evaluate({**row, "on_list_anonymizers": False}), "a row may say so itself"
    assert ruled(nets, when="!on_list_anonymizers").evaluate(record(login(ip=None)))


def test_lists_are_by_attributes_too() -> None:
    made = load("lists:\n  - {name: drivers, kind: deny, field: driver_id, entries: [d7]}")
    rules = ruled(*made.lists)
    assert score(record(payment(0, attributes={"driver_id": "d7"})), rules).action == "block"
    assert score(record(payment(0, attributes={"driver_id": "d8"})), rules).action == "allow"
    assert [f.rule_id for f in rules.evaluate({"event_type": "payment", "driver_id": "d7"})] == ["list.drivers"]


def test_a_list_that_a_condition_names_has_to_be_there_or_announced() -> None:
    when = "on_list_anonymizer"
    with pytest.raises(RuleError, match="unknown list 'anonymizer'; give it with --lists, or add anonymizer under"):
        load_rules("rules:\n" + rule("one", when))
    nets = value_list("ip", "192.0.2.0/24", kind="reference", name="anonymizers")
    with pytest.raises(RuleError, match="unknown list 'anonymizer'; did you mean 'on_list_anonymizers'"):
        ruled(nets, when=when)
    announced = load_rules("lists: [anonymizer]\nrules:\n" + rule("one", when))
    assert announced.evaluate(record(login())) == ()
    tests = "    tests:\n      match:\n        - {event_type: login, on_list_anonymizer: true}\n"
    assert load_rules("lists: [anonymizer]\nrules:\n" + rule("one", when) + tests)


def test_rules_travel_with_their_lists() -> None:
    rules = ruled(value_list("user_id", "u1"))
    there = pickle.loads(pickle.dumps(rules))
    assert score(record(login()), there).fired == score(record(login()), rules).fired
    assert there.lists.version == rules.lists.version
    assert pickle.loads(pickle.dumps(there)) is there, "once a process"


# ------------------------------------------------------------------------------ versions


def test_the_version_is_of_what_decides() -> None:
    base = "lists:\n  - {name: a, kind: deny, field: user_id, entries: [u1, {value: u2, source: x}]}\n"
    version = load(base).version
    same = [
        base.replace("[u1, {value: u2, source: x}]", "[u2, u1]"),
        base.replace("source: x", "source: y"),
        base.replace("kind: deny", "description: d, kind: deny"),
        "lists:\n  - {name: a, kind: deny, field: user_id, file: a.txt}\n",
    ]
    assert {load(text, a_txt="u1\nu2\n").version for text in same} == {version}
    others = [
        base.replace("u1", "u3"),
        base.replace("kind: deny", "kind: watch"),
        base.replace("name: a", "name: b"),
        base.replace("field: user_id", "field: device_id"),
        base.replace("kind: deny", "mode: shadow, kind: deny"),
        base.replace("source: x", "expires: 2026-01-01T00:00:00Z"),
        base + "  - {name: b, kind: deny, field: user_id, entries: []}\n",
    ]
    assert len({version, *(load(text).version for text in others)}) == 1 + len(others)
    assert NO_LISTS.version == ""


def test_networks_of_different_length_are_different() -> None:
    lists = [value_list("ip", network) for network in ("10.0.0.0/8", "10.0.0.0/16", "0.10.0.0/16", "::a00/120")]
    assert len({one.version for one in lists}) == len(lists)


# ------------------------------------------------------------------------------ files


def test_entries_come_from_text_csv_and_yaml_alike() -> None:
    heads = "lists:\n"
    heads += "  - {name: a, kind: deny, field: ip, source: feed, file: a.txt}\n"
    heads += "  - {name: b, kind: watch, field: card_id, source: feed, file: b.csv}\n"
    heads += "  - name: c\n    kind: allow\n    field: user_id\n    source: feed\n    entries:\n"
    heads += "      - u1\n      - {value: u2, expires: 2026-01-01T12:00:00+01:00, source: case 4}\n"
    made = load(
        heads,
        a_txt="\ufeff# exits\n192.0.2.0/24  # a network\n\n2001:db8::1\n",
        b_csv='value,source,expires\ntok_1,case 1,2026-01-01T11:00:00Z\n"tok,2",,\n\n',
    )
    a, b, c = made.lists
    assert (a.size, b.size, c.size, made.size) == (2, 2, 2, 6)
    assert a.find("192.0.2.9", 0) == Entry(NEVER_MS, "feed")
    assert b.find("tok_1", 0) == Entry(1_767_265_200_000, "case 1")
    assert b.find("tok,2", 0) == Entry(NEVER_MS, "")
    assert c.find("u1", 0) == Entry(NEVER_MS, "feed")
    assert c.find("u2", 0) == Entry(1_767_265_200_000, "case 4")


def test_what_a_file_names_is_known_before_it_is_read() -> None:
    text = "lists:\n"
    text += "  - {name: a, kind: deny, field: ip, file: a.txt}\n  - {name: b, kind: deny, field: ip, file: a.txt}\n"
    text += "  - {name: c, kind: deny, field: ip, table: p.d.t}\n  - {name: d, kind: deny, field: ip, entries: []}\n"
    assert references(text) == (("file", "a.txt"), ("table", "p.d.t"))
    assert references("lists: [") == references("lists: 5") == references("") == ()


HEAD = "lists:\n  - name: a\n    kind: deny\n    field: user_id\n"


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "lists.yaml:1:1: ", "it is empty"),
        ("rules: []", "lists.yaml:1:1: ", "unknown key 'rules'; there are lists"),
        (HEAD, "lists.yaml:2:5: list 'a': ", "one of entries, file and table is needed, found none"),
        (HEAD + "    entries: []\n    file: a.txt", "lists.yaml:2:5: list 'a': ", "found entries and file"),
        (HEAD.replace("deny", "block") + "    entries: []", "lists.yaml:3:11: ", "it is one of deny, allow, watch"),
        (HEAD.replace("user_id", "userid") + "    entries: []", "lists.yaml:4:12: ", "did you mean 'user_id'?"),
        (HEAD.replace("user_id", "outcome") + "    entries: []", "lists.yaml:4:12: ", "there are user_id, "),
        (HEAD.replace("user_id", "trip_km") + "    entries: []", "lists.yaml:4:12: ", "no text of events"),
        (HEAD.replace("name: a", "name: A") + "    entries: []", "lists.yaml:2:11: ", "lower-case name such as"),
        (HEAD + "    entries: [5]", "lists.yaml:5:15: ", "in quotes if it looks like a number"),
        (HEAD + "    entries: [NO]", "lists.yaml:5:15: ", "in quotes if it looks like a number or yes/no"),
        (HEAD + "    entries: ['']", "lists.yaml:5:15: ", "the value is empty"),
        (HEAD + "    entries: [{valu: x}]", "lists.yaml:5:16: ", "did you mean 'value'?"),
        (HEAD + "    entries: [{value: x, expires: 2026-01-01}]", "lists.yaml:5:35: ", "a time with an offset"),
        (HEAD + "    entries: []\n" + HEAD[7:] + "    entries: []", "lists.yaml:6:11: ", "taken by the list at line 2"),
        (
            HEAD.replace("user_id", "ip") + "    entries: [192.0.2.1, 192.0.2.1/24]",
            "lists.yaml:5:26: list 'a': ",
            "write 192.0.2.0/24",
        ),
        (HEAD + f"    entries: [{'x,' * (MAX_INLINE_ENTRIES + 1)}]", "lists.yaml:5:14: ", "write file: a.csv"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(text: str, where: str, message: str) -> None:
    with pytest.raises(ListError) as caught:
        load(text)
    assert str(caught.value).startswith(where)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("field", "name", "content", "where", "message"),
    [
        ("user_id", "a.csv", "user,expires\nu1,\n", "a.csv:1:1: list 'a': ", "no column 'value' in the first line"),
        ("user_id", "a.csv", "", "a.csv:1:1: ", "begin with: value,expires,source"),
        (
            "user_id",
            "a.csv",
            "value,expires\nu1,\nu2,soon\n",
            "a.csv:3:1: ",
            "expires 'soon' is not RFC 3339; write it like",
        ),
        ("user_id", "a.csv", "value,source\nu1,a,b\n", "a.csv:2:1: ", "3 values under 2 columns; quote values"),
        ("user_id", "a.csv", "value,source\n,a\n", "a.csv:2:1: ", "the value is empty"),
        ("user_id", "a.csv", "value\nu1\n\udcff\n", "a.csv:", "it isn't UTF-8"),
        ("ip", "a.txt", "# nets\n192.0.2.1\nhere\n", "a.txt:3:1: ", "neither an IP address nor a network"),
    ],
)
def test_a_broken_file_of_entries_is_one_line_with_its_place(
    field: str, name: str, content: str, where: str, message: str
) -> None:
    with pytest.raises(ListError) as caught:
        load(
            f"lists:\n  - {{name: a, kind: deny, field: {field}, file: {name}}}\n", **{name.replace(".", "_"): content}
        )
    assert str(caught.value).startswith(where)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("lists", "name", "expected"),
    [
        ("gs://bucket/fraud/lists.yaml", "cards.csv", "gs://bucket/fraud/cards.csv"),
        ("gs://bucket/lists.yaml", "cards.csv", "gs://bucket/cards.csv"),
        ("gs://bucket/fraud/lists.yaml", "gs://other/cards.csv", "gs://other/cards.csv"),
        ("rules/lists.yaml", "cards.csv", "rules/cards.csv"),
        ("lists.yaml", "cards.csv", "cards.csv"),
        ("rules/lists.yaml", "/data/cards.csv", "/data/cards.csv"),
    ],
)
def test_a_file_of_entries_is_beside_the_one_that_names_it(lists: str, name: str, expected: str) -> None:
    assert beside(lists, name) == (expected if "://" in expected else str(Path(expected).absolute()))


def test_a_file_may_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "lists.yaml").write_text("lists:\n  - {name: nets, kind: deny, field: ip, file: nets.csv.gz}\n")
    (tmp_path / "nets.csv.gz").write_bytes(gzip.compress(b"value\n192.0.2.0/24\n"))
    assert score(record(login()), read_rules(lists_path=str(tmp_path / "lists.yaml"))).action == "block"


def test_check_says_what_the_lists_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.yaml").write_text("rules:\n" + rule("one", "on_list_nets"))
    (tmp_path / "lists.yaml").write_text("lists:\n  - {name: nets, kind: reference, field: ip, file: nets.txt}\n")
    (tmp_path / "nets.txt").write_text("192.0.2.0/24\n198.51.100.0/24\n")
    command = ["rules", "check", str(tmp_path / "rules.yaml")]
    assert main([*command, "--lists", str(tmp_path / "lists.yaml")]) == 0
    assert "nets: reference by ip, 2 entries" in capsys.readouterr().out
    assert main(command) == 2
    assert "unknown list 'nets'" in capsys.readouterr().err
    (tmp_path / "nets.txt").unlink()
    assert main([*command, "--lists", str(tmp_path / "lists.yaml")]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/nets.txt: can't be read" in error
    assert error.count("\n") == 1


# ------------------------------------------------------------------------------ BigQuery


@pytest.fixture(scope="module")
def client(bigquery: Emulator) -> Iterator[google_bigquery.Client]:
    client = bigquery.client("lists-test")
    client.create_dataset("lists")
    yield client
    client.close()


@pytest.mark.emulator
def test_a_list_comes_from_a_table(
    client: google_bigquery.Client, bigquery: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bigquery.environment().items():
        monkeypatch.setenv(name, value)
    client.query_and_wait("CREATE TABLE lists.mules (value STRING, expires TIMESTAMP, source STRING, added DATE)")
    client.query_and_wait(
        "INSERT INTO lists.mules VALUES ('p1', NULL, 'bank', NULL), "
        "('p2', TIMESTAMP '2026-01-01 12:00:00+00', '', NULL)"
    )
    lists = tmp_path / "lists.yaml"
    lists.write_text(
        "lists:\n  - {name: mules, kind: deny, field: payee_id, source: us, table: lists-test.lists.mules}\n"
    )
    rules = read_rules(lists_path=str(lists))
    (mules,) = rules.lists.lists
    assert mules.find("p1", 0) == Entry(NEVER_MS, "bank")
    assert mules.find("p2", 0) == Entry(NOON_MS, "us")
    actions = [score(record(payment(at, payee_id=p)), rules).action for p, at in (("p1", 0), ("p2", -1), ("p2", 0))]
    assert actions == ["block", "block", "allow"]
    version = rules.lists.version
    assert read_rules(lists_path=str(lists)).lists.version == version
    client.query_and_wait("INSERT INTO lists.mules (value) VALUES ('p3')")
    assert read_rules(lists_path=str(lists)).lists.version != version
    client.query_and_wait("INSERT INTO lists.mules (value) VALUES (NULL)")
    with pytest.raises(UsageError, match=r"table lists-test\.lists\.mules: a value is NULL; remove that row"):
        read_rules(lists_path=str(lists))


@pytest.mark.emulator
@pytest.mark.parametrize(
    ("sql", "name", "message"),
    [
        ("CREATE OR REPLACE TABLE lists.odd (user STRING)", "lists-test.lists.odd", "no column 'value' but user"),
        ("CREATE OR REPLACE TABLE lists.odd (value STRING, expires STRING)", "lists-test.lists.odd", "a TIMESTAMP"),
        ("SELECT 1", "lists-test.lists.missing", "can't be read"),
        ("SELECT 1", "missing", "give project.dataset.table"),
    ],
)
def test_a_table_that_is_none_is_told_in_one_line(
    sql: str, name: str, message: str, client: google_bigquery.Client, bigquery: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for variable, value in bigquery.environment().items():
        monkeypatch.setenv(variable, value)
    client.query_and_wait(sql)
    if "expires" in sql:
        client.query_and_wait("INSERT INTO lists.odd VALUES ('x', 'soon')")
    with pytest.raises(OSError, match=message) as caught:
        list(read_table(name))
    assert "\n" not in str(caught.value)
