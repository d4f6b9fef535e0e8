"""The mutants: what is broken, how, and who must find it.

A mutant is found where the named test fails while `alive`, a test of the same part, still passes:
so it is the fault that was found, not a part that does not work at all.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """A text that stands in a file exactly once, and what replaces it."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """One broken variant.

    Args:
        name: of the fault.
        edits: what makes it.
        found_by: a test that must fail; empty where the torture finds it.
        alive: a test that must pass all the same.
        torture: arguments with which `shardex torture` must fail.
    """

    name: str
    edits: tuple[Edit, ...]
    found_by: str = ""
    alive: str = ""
    torture: tuple[str, ...] = ()


_SETTLE = "router/scripts/settle.lua"
_PUBLISH = "router/scripts/publish.lua"
_ADMIT = "router/scripts/admit.lua"
_LEASE_CHECK = "if lease[1] ~= head[2] or tonumber(lease[2]) ~= head[3] then"
_COMMIT_TESTS = "tests/integration/test_lua_commit.py"
_ADMISSION_TESTS = "tests/integration/test_lua_admission.py"
_TRADING_TESTS = "tests/unit/test_engine_trading.py"
_MASS_TESTS = "tests/integration/test_lua_mass_requests.py"
_COPY_TESTS = "tests/integration/test_lua_copies.py"
_PHASE_TESTS = "tests/integration/test_lua_phases.py"
_DISPATCH_TESTS = "tests/unit/test_gateway_dispatch.py"
_REPORTER_TESTS = "tests/unit/test_gateway_reporter.py"
_RUNNER_TESTS = "tests/unit/test_engine_runner.py"
_DISCONNECT_TESTS = "tests/integration/test_lua_disconnects.py"
_KEEPER_TESTS = "tests/unit/test_gateway_session_keeper.py"
_SNAPSHOT_TESTS = "tests/unit/test_engine_snapshot_keeper.py"
_WRITER_TESTS = "tests/integration/test_postgres_writer.py"
_FEED_TESTS = "tests/unit/test_gateway_market_feed.py"
_QUIET_TORTURE = ("--seconds", "5", "--seed", "1", "--only", "marketdata")
"""What is struck stops nobody: what is found has nothing to do with it."""

MUTANTS = (
    Mutant(
        "commit without fence",
        (
            Edit(_SETTLE, _LEASE_CHECK, "if false then"),
            Edit(_PUBLISH, _LEASE_CHECK, "if false then"),
        ),
        found_by=f"{_COMMIT_TESTS}::test_old_epoch_is_fenced_from_settling_and_publishing",
        alive=f"{_COMMIT_TESTS}::test_batch_moves_money_reports_and_publishes",
    ),
    Mutant(
        "settle without guard",
        (
            Edit(
                _SETTLE,
                "  if seq > settled[s] then\n    if seq ~= settled[s] + 1 then",
                "  if true then\n    if seq > settled[s] + 1 then",
            ),
            # What is harmless with the guard: an engine that commits its last inputs once more.
            Edit(
                "ops/engine_process.py",
                "min(p.settled, p.published) for symbol",
                "max(0, min(p.settled, p.published) - 50) for symbol",
            ),
        ),
        torture=("--seconds", "10", "--seed", "7", "--only", "engine", "--no-standby"),
    ),
    Mutant(
        "settle without guard, lost reply",
        (
            Edit(
                _SETTLE,
                "  if seq > settled[s] then\n    if seq ~= settled[s] + 1 then",
                "  if true then\n    if seq > settled[s] + 1 then",
            ),
        ),
        found_by=f"{_COMMIT_TESTS}::test_lost_replies_leave_the_same_outcome",
        alive=f"{_COMMIT_TESTS}::test_batch_moves_money_reports_and_publishes",
    ),
    Mutant(
        "acknowledge before the journal has it",
        (
            Edit(
                "engine/runner.py",
                '"commit", after=(self._journal_stage, self._match_stage)',
                '"commit", after=(self._match_stage,)',
            ),
        ),
        found_by=f"{_RUNNER_TESTS}::test_commit_waits_for_the_journal_and_matching_does_not",
        alive=f"{_RUNNER_TESTS}::test_commands_are_journalled_matched_and_committed_in_order",
    ),
    Mutant(
        "acknowledge before commit: reports are written before they are stored",
        (
            Edit(
                "gateway/reporter.py",
                "                stores = [batch.store for batch in batches]\n",
                "                stores = [batch.store for batch in batches]\n"
                "                for batch in batches:\n"
                "                    batch.connection.release_output(batch.messages)\n",
            ),
        ),
        found_by=f"{_REPORTER_TESTS}::test_session_that_is_lost_writes_nothing_of_the_batch",
        alive=f"{_REPORTER_TESTS}::test_only_sessions_that_are_logged_on_are_read",
    ),
    Mutant(
        "lost wake-up without sweep",
        (
            Edit(
                "gateway/reporter.py",
                "            await asyncio.sleep(interval_s)\n            self.mark_all()\n",
                "            await asyncio.sleep(interval_s)\n",
            ),
        ),
        found_by=f"{_REPORTER_TESTS}::test_sweeps_find_what_no_wake_up_named",
        alive=f"{_REPORTER_TESTS}::test_news_are_numbered_stored_and_written",
    ),
    Mutant(
        "writer position outside its transaction",
        (
            Edit(
                "persistence/writer.py",
                "was_in_doubt=was_in_doubt)\n                    if moved:\n",
                "was_in_doubt=was_in_doubt)\n"
                "                async with connection.transaction():\n"
                "                    if moved:\n",
            ),
        ),
        found_by=f"{_WRITER_TESTS}::test_refused_row_leaves_position_and_tables_as_they_were",
        alive=f"{_WRITER_TESTS}::test_rows_of_a_small_day_are_exact",
    ),
    Mutant(
        "non-atomic admission",
        (
            Edit(_ADMIT, "      return {'RULES', symbols[s], tonumber(home[3])}\n", "\n"),
            Edit(
                _ADMIT,
                "for account in pairs(raised) do\n",
                "for s = 1, #symbols, 4 do\n"
                "  local rules = tonumber(call('HGET', 'home:' .. symbols[s], 'rules'))\n"
                "  if symbols[s + 3] ~= 0 and rules ~= symbols[s + 3] then\n"
                "    return {'RULES', symbols[s], rules}\n"
                "  end\n"
                "end\n"
                "for account in pairs(raised) do\n",
            ),
        ),
        found_by=f"{_ADMISSION_TESTS}"
        "::test_other_rules_version_writes_nothing_and_names_the_one_in_force",
        alive=f"{_ADMISSION_TESTS}::test_order_is_reserved_and_published_behind_the_definition",
    ),
    Mutant(
        "two admission calls in flight",
        (
            Edit(
                "gateway/dispatch.py",
                "            await asyncio.wait((call,), timeout=_LOOK_S)\n",
                "            call = None\n",
            ),
        ),
        found_by=f"{_DISPATCH_TESTS}::test_what_comes_during_a_call_is_the_next_batch",
        alive=f"{_DISPATCH_TESTS}::test_each_result_goes_where_it_belongs",
    ),
    Mutant(
        "a refusal not recorded",
        (
            Edit(
                _ADMIT,
                "      tell(account, 'e', payload)\n",
                "",
            ),
        ),
        torture=_QUIET_TORTURE,
    ),
    Mutant(
        "resend from the wrong incarnation",
        (
            Edit(
                "gateway/resends.py",
                "sessions.sent_between(connection.account, number,",
                "sessions.sent_between(connection.account, 1,",
            ),
        ),
        found_by=f"{_KEEPER_TESTS}::test_reset_drops_the_fetch_of_a_resend_that_is_under_way",
        alive=f"{_KEEPER_TESTS}::test_numbers_are_leased_until_there_are_enough",
    ),
    Mutant(
        "a client that is gone may still send",
        (
            Edit(
                "router/scripts/session_disconnect.lua",
                "  call('HINCRBY', key, 'epoch', 1)\n",
                "",
            ),
        ),
        found_by=f"{_DISCONNECT_TESTS}::test_who_dies_with_its_gateway_is_canceled_when_the_lease_ends",
        alive=f"{_DISCONNECT_TESTS}::test_who_logs_out_is_canceled_where_it_may_have_orders",
    ),
    Mutant(
        "snapshot ahead of settle",
        (
            Edit(
                "engine/snapshot_keeper.py",
                "            await self._until_passed(positions)\n",
                "",
            ),
        ),
        found_by=f"{_SNAPSHOT_TESTS}"
        "::test_snapshot_ahead_of_what_is_settled_or_journalled_does_not_count",
        alive=f"{_SNAPSHOT_TESTS}::test_saves_what_was_there_at_the_fork",
    ),
    Mutant(
        "orders expire behind the input that finds them due",
        (
            Edit(
                "engine/matching.py",
                "        if not self.quiet and self.expiry.next_us <= turn.ts_us:\n"
                "            self.expire_due(turn)\n"
                "        _HANDLERS[type(command)](self, turn, command)\n",
                "        _HANDLERS[type(command)](self, turn, command)\n"
                "        if not self.quiet and self.expiry.next_us <= turn.ts_us:\n"
                "            self.expire_due(turn)\n",
            ),
        ),
        found_by=f"{_TRADING_TESTS}"
        "::test_due_order_does_not_meet_the_input_whose_stamp_is_its_time",
        alive=f"{_TRADING_TESTS}::test_expiry_goes_on_with_the_next_inputs",
    ),
    Mutant(
        "a reached stop order forgotten in the snapshot",
        (
            Edit(
                "engine/matcher_content.py",
                "    stops.high_ticks, stops.low_ticks = content.high_ticks, content.low_ticks\n",
                "",
            ),
        ),
        found_by=f"{_TRADING_TESTS}::test_reached_stops_are_in_a_snapshot",
        alive="tests/unit/test_engine_snapshot.py::test_state_comes_back_whole",
    ),
    Mutant(
        "settle without the copy for a drop-copy session",
        (Edit(_SETTLE, "      if any_copies then\n", "      if false then\n"),),
        found_by=f"{_MASS_TESTS}::test_reports_are_copied_once_however_often_they_are_settled",
        alive=f"{_MASS_TESTS}::test_refusals_are_copied_with_their_place_in_the_original",
    ),
    Mutant(
        "a mass cancel without the streams that are not settled to their end",
        (
            Edit(
                "router/scripts/streams.lua",
                " or tonumber(redis.call('HGET', 'settled', symbol)) ~= seq\n",
                "\n",
            ),
        ),
        found_by=f"{_MASS_TESTS}::test_mass_cancel_follows_orders_that_are_not_settled_yet",
        alive=f"{_MASS_TESTS}"
        "::test_mass_cancel_goes_where_the_account_may_have_orders_behind_its_answer",
    ),
    Mutant(
        "an opening that does not wait for what is to end",
        (Edit("engine/opening.py", "        if self.is_behind:\n            return\n", ""),),
        found_by="tests/property/test_shard_phases.py"
        "::test_what_is_to_end_never_trades_and_keeps_its_terms",
        alive="tests/unit/test_engine_opening.py"
        "::test_each_input_makes_a_part_and_ticks_are_due_until_the_end",
    ),
    Mutant(
        "only the last request for a phase known again",
        (
            Edit(
                "router/scripts/set_phase.lua",
                "if placed then\n",
                "if placed and placed == before[1] then\n",
            ),
        ),
        found_by=f"{_PHASE_TESTS}::test_a_request_repeated_after_newer_changes_undoes_nothing",
        alive=f"{_PHASE_TESTS}::test_a_request_becomes_a_command_once",
    ),
    Mutant(
        "copies without end for who does not fetch them",
        (Edit("router/scripts/copies.lua", "  if left > 0 then\n", "  if true then\n"),),
        found_by=f"{_COPY_TESTS}::test_settlement_goes_on_without_copies_that_nobody_fetches",
        alive=f"{_MASS_TESTS}::test_refusals_are_copied_with_their_place_in_the_original",
    ),
    Mutant(
        "a refusal not copied for a drop-copy session",
        (Edit(_ADMIT, "  local others = copies_of(account)\n", "  local others = nil\n"),),
        torture=_QUIET_TORTURE,
    ),
    Mutant(
        "a trade told twice in market data",
        (
            Edit(
                "gateway/market_book.py",
                "return list(self._trades)[-missed:], ",
                "return list(self._trades)[-missed - 1 :], ",
            ),
        ),
        torture=_QUIET_TORTURE,
    ),
    Mutant(
        "a book waited for on a server that is gone",
        (
            Edit(
                "gateway/market_feed.py",
                '            await retry_while_away(lambda: link.call("PING"),',
                "            if not polls:\n"
                '                await retry_while_away(lambda: link.call("PING"),',
            ),
        ),
        found_by=f"{_FEED_TESTS}::test_a_book_is_waited_for_on_the_server_that_redis_is_by_then",
        alive=f"{_FEED_TESTS}::test_events_are_not_read_on_while_rounds_are_late",
    ),
)
