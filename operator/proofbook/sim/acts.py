"""The chapters of the demonstration, in their order; `proofbook.sim.demo.run` goes through them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar, Final

from eth_account import Account

from proofbook.chain.anvil import Anvil
from proofbook.client.http import ApiClient
from proofbook.client.orders import Ids
from proofbook.escape.artifacts import WASM, ZKEY, check_exit_artifacts
from proofbook.escape.owned import Owned
from proofbook.operator.settings import create_directory
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.table import ETH_TOKEN, PRESETS, Side
from proofbook.prover.workspace import Progress
from proofbook.sim.desk import Desk, Seat
from proofbook.sim.flow import Place, Round, SimulationError
from proofbook.sim.leaving import Departure, Left, Quanta, check_balances, in_units, require_equal
from proofbook.sim.operator_process import OperatorProcess
from proofbook.sim.stage import MARKETS, PRESET, STOCK, TOKENS, USD, Person, Stage, build_keys, make_person
from proofbook.sim.story import Story, several, whole

ETH, DOLLAR, SHARE = TOKENS
CAST: Final[dict[str, dict[int, int]]] = {
    # What everybody deposits, in whole tokens. The first two make markets, the others take.
    "ada": {ETH_TOKEN: 400, USD: 20_000_000, STOCK: 20_000},
    "ben": {ETH_TOKEN: 300, USD: 15_000_000, STOCK: 15_000},
    "cleo": {ETH_TOKEN: 50, USD: 2_000_000},
    "dan": {USD: 3_000_000, STOCK: 2_000},
    "eve": {ETH_TOKEN: 80, USD: 1_000_000},
    "finn": {USD: 2_500_000, STOCK: 3_000},
    "gus": {ETH_TOKEN: 30, STOCK: 1_000},
}
ADA, BEN, CLEO, DAN, EVE, FINN, GUS = range(7)
VALID_S: Final = 2 * 24 * 3600
REQUESTS_S: Final = 60.0
FORGED: Final = Place(-1, GUS, MARKETS[0].symbol, Side.SELL, 30_000_000, 50)
"""Gus offers half an ether for 3,000 dollars each, where the price is 2,500."""
_BATCH_FIELDS: Final = (
    "number",
    "orders",
    "trades",
    "requests",
    "actions",
    "accounts",
    "constraints",
    "witness_s",
    "prove_s",
    "gas",
    "data_bytes",
    "tx",
)


_PROOF: Final = re.compile(r"checking proof (\d{1,6}) of ([1-9]\d{0,5})\Z")


class DemoFailed(SimulationError):
    """The demonstration did not come out as it has to."""

    code: ClassVar[str] = "demo_failed"


class Demo:
    """One demonstration; its methods are the chapters, in their order."""

    def __init__(self, out: Path, seed: int, rounds: list[Round], story: Story, progress: Progress) -> None:
        self.out, self.rounds, self.story, self.progress = out, rounds, story, _once(progress)
        self.directory, self.wallets = out / "operator", out / "wallets"
        self.people = [make_person(name, seed) for name in CAST]
        self.house = make_person("house", seed)
        self.operator_address = ""
        self.started = time.monotonic()
        self.withdrawn: Quanta = {}
        self.paid: list[tuple[str, Quanta]] = []
        self.batches: list[dict[str, Any]] = []
        self.told: dict[int, Quanta] = {}
        self.left: list[Left] = []
        self.stage: Stage
        self.api: ApiClient
        self.desk: Desk

    @property
    def exit_artifacts(self) -> Path:
        """Where the traders keep the exit circuit's files."""
        return self.wallets / "exit"

    # --- 1 to 3: set the stage

    def deploy(self, anvil: Anvil) -> None:
        """Build keys, deploy, and make the operator's directory."""
        self.story.chapter("An exchange is deployed")
        keys = build_keys(self.progress)
        # The operator's key follows from nothing and is kept nowhere but in its directory, which is going to be lost.
        operator = Person("operator", Account.create())
        self.operator_address = operator.address
        self.stage = Stage(anvil, keys, operator, self.house)
        self.stage.fund(self.people)
        _write(self.out / "deployment.json", self.stage.deployment_json())
        create_directory(self.directory, self.stage.settings(), bytes(operator.key.key))
        say = self.story.say
        say(f"chain {self.stage.chain_id} at {anvil.url}, contract {self.stage.address}, preset {PRESET}")
        say(f"keys: {keys.exit.manifest.kind}; deployment used {self.stage.deployment.gas:,} gas")
        say("markets: " + ", ".join(market.symbol for market in MARKETS))

    def greet(self, operator: OperatorProcess) -> None:
        """Connect to the operator."""
        self.api = ApiClient(operator.url)
        self.story.say(f"the operator runs as process {operator.pid} at {operator.url}")

    def open_accounts(self) -> None:
        """Store the exit artifacts (M25), open accounts, deposit."""
        self.story.chapter("Traders open accounts and deposit")
        self.api.download_exit("zkey", self.exit_artifacts / ZKEY)
        self.api.download_exit("wasm", self.exit_artifacts / WASM)
        check_exit_artifacts(self.exit_artifacts, self.stage.exchange().config())
        self.story.say("each has stored the exit circuit's files, and their hashes are the contract's")
        seats: list[Seat] = []
        for person, brings in zip(self.people, CAST.values(), strict=True):
            self.progress("traders open accounts", len(seats) / len(self.people))
            trader = self.stage.trader(person)
            account, _ = self.stage.exchange(person).open(*trader.public)
            seats.append(Seat(account, trader, Ids(1, PRESETS[PRESET].slots)))
            for token in TOKENS:
                if token.id in brings:
                    self.stage.deposit(person, account, token, token.units(brings[token.id]))
            self.story.say(f"{person.name}: account {account}, {several(in_units(_brought(person)))}")
        now = int(self.stage.w3.eth.get_block("latest")["timestamp"])
        self.desk = Desk(self.api, {market.symbol: market for market in MARKETS}, seats, now + VALID_S)
        self._wait_for_requests()

    def _wait_for_requests(self) -> None:
        """Wait until all of L1's queue has taken effect; proving it may take longer than trading on it."""
        _, queued = self.stage.exchange().queue()
        until = time.monotonic() + REQUESTS_S
        while int(self.api.health()["next_unconfirmed"]) < queued:
            if time.monotonic() > until:
                raise DemoFailed(f"the operator did not take all {queued} requests within {REQUESTS_S:.0f} s")
            time.sleep(0.1)
        self.story.say(f"the operator has taken all {queued} requests, and proves them while trading begins")

    # --- 4 to 6: trade, withdraw, be forced

    def trade(self, operator: OperatorProcess) -> None:
        """Forgeries, then the whole flow, settled to the last trade."""
        self.story.chapter("Signed orders are matched, and settled behind proofs")
        for what, code in self.desk.try_forgeries(FORGED):
            self.story.say(f"an order {what}: {code}")
        for k, intents in enumerate(self.rounds):
            operator.check()
            self.desk.work(intents)
            self._watch(tell=False)
            self.progress("traders send orders", k / len(self.rounds))
        tally = self.desk.tally
        self.story.say(f"{tally.submitted} orders and {tally.cancels} cancels sent, {tally.trades} trades")
        refused = ", ".join(f"{code} {n}" for code, n in sorted(tally.refused.items()))
        self.story.say(f"{tally.admitted} orders admitted; refused: {refused or 'none'}")
        self.settle()

    def withdraw(self) -> None:
        """Withdrawals, a transfer and a proven cancel, settled and paid out."""
        self.story.chapter("Withdrawals")
        ada, ben, cleo, dan, _, finn, _ = self.desk.seats
        ether, dollars = self._free(cleo, ETH_TOKEN) // 10, self._free(ben, USD) // 10
        self.desk.withdraw(cleo, ETH_TOKEN, ether)
        self.desk.withdraw(ben, USD, dollars)
        self.desk.transfer(dan, USD, gift := self._free(dan, USD) // 1000, finn)
        if resting := sorted(self.desk.look(ada)):
            self.desk.cancel(ada, resting[0], hard=True)
        told = [several(in_units(amount)) for amount in ({ETH_TOKEN: ether}, {USD: dollars}, {USD: gift})]
        self.story.say(f"cleo withdraws {told[0]}, ben {told[1]}; dan gives finn {told[2]}; ada has a cancel proven")
        self.settle()
        for who, token in ((CLEO, ETH), (BEN, DOLLAR)):
            self._claim(self.people[who], token.id)
        require_equal("withdrawn", self.withdrawn, {ETH_TOKEN: ether, USD: dollars})

    def force_exit(self) -> None:
        """A forced exit, which the operator serves."""
        self.story.chapter("A forced exit, served")
        who = max((DAN, FINN, GUS), key=lambda k: self._balances(self.desk.seats[k].account).get(STOCK, 0))
        person, account = self.people[who], self.desk.seats[who].account
        held = self._balances(account).get(STOCK, 0)
        self.stage.exchange(person).force_exit(account, STOCK)
        self.story.say(f"{person.name} asks on L1 for all shares: {several(in_units({STOCK: held}))}")
        self.settle()
        self._claim(person, STOCK)
        require_equal("the forced exit", self.withdrawn.get(STOCK, 0), held)

    def _claim(self, person: Person, token: int) -> None:
        """Have a claim paid, and count by how much the vault shrank."""
        exchange = self.stage.exchange(person)
        info = exchange.token(token)
        before = exchange.vault(info)
        exchange.claim(token)
        quanta = (before - exchange.vault(info)) // info.quantum
        self.withdrawn[token] = self.withdrawn.get(token, 0) + quanta
        self.paid.append((person.name, {token: quanta}))
        self.story.say(f"{person.name} claims it on L1: {several(in_units({token: quanta}))}")

    def settle(self) -> None:
        """Have everything pending settled, telling of each batch as it is confirmed."""
        known = len(self.batches)
        failed: list[ProofbookError] = []

        def flush() -> None:
            try:
                self.api.flush()
            except ProofbookError as error:
                failed.append(error)

        # A daemon: a Ctrl-C must not wait for a batch to be proven.
        thread = threading.Thread(target=flush, daemon=True)
        thread.start()
        while thread.is_alive():
            self._watch()
            thread.join(0.3)
        if failed:
            raise failed[0]
        self._watch()
        served, queued = self.stage.exchange().queue()
        require_equal("requests served", served, queued)
        if len(self.batches) == known:
            raise DemoFailed("nothing was settled")

    def _watch(self, tell: bool = True) -> None:
        for batch in reversed(self.api.batches(100)):
            if batch["number"] <= len(self.batches):
                continue
            if batch["state"] != "confirmed":
                if tell:
                    self.progress(f"batch {batch['number']} is being proven", None)
                return
            self.batches.append(batch)
            self.story.say(
                f"batch {batch['number']} is on chain: {_count(batch, 'request')}, {_count(batch, 'action')}, "
                f"{_count(batch, 'trade')}; proven in {batch['prove_s']:.1f} s, {batch['gas']:,} gas"
            )

    def _balances(self, account: int) -> Quanta:
        rows = self.api.account(account)["balances"]
        return {row["token"]: int(row["total"]) for row in rows if int(row["total"])}

    def _free(self, seat: Seat, token: int) -> int:
        rows = self.api.account(seat.account)["balances"]
        return sum(int(row["available"]) for row in rows if row["token"] == token)

    # --- 7 and 8: check, and end it

    def verify(self) -> dict[str, Any]:
        """Have the verifier, a process of its own, rebuild everything from the chain."""
        self.story.chapter("The verifier rebuilds the state from the chain alone")
        report = run_verifier(self.stage.anvil.url, self.stage.address, self.progress)
        root = self.stage.exchange().state_root()
        require_equal("root rebuilt", (report["root_rebuilt"], report["root_on_chain"]), (str(root), str(root)))
        require_equal("proofs that hold", report["proofs_checked"], len(self.batches))
        require_equal("the deployed code is this checkout's", report["code_matches"], True)
        self.story.say(f"{report['proofs_checked']} proofs hold; root rebuilt = root on chain = {root:#066x}")
        for symbol, held in report["vault"].items():
            owed = int(report["liabilities"][symbol])
            self.story.say(f"{symbol}: the vault holds {whole(int(held), symbol)}, owed are {whole(owed, symbol)}")
        return report

    def kill_operator(self, operator: OperatorProcess) -> None:
        """Kill the operator, and delete all it had."""
        self.story.chapter("The operator is killed, and all it had deleted")
        self.told = {account: self._balances(account) for account in range(len(self.people) + 1)}
        self.api.close()
        pid = operator.pid
        operator.kill()
        shutil.rmtree(self.directory)
        self.story.say(f"process {pid} got SIGKILL; its directory is gone: journal, proofs, keys")

    def miss_deadline(self) -> None:
        """Requests that nobody serves, until the first deadline has passed."""
        self.story.chapter("Requests go unserved, and the exchange is frozen")
        seats, stage = self.desk.seats, self.stage
        stage.deposit(self.people[FINN], seats[FINN].account, ETH, ETH.units(7))
        stage.exchange(self.people[EVE]).force_exit(seats[EVE].account, USD)
        self.story.say("finn deposits 7 ETH, and eve asks for her dollars; nobody is there")
        departure = Departure(stage, self.exit_artifacts, self.progress)
        escape = departure.open(self.people[EVE])
        oldest = escape.owned().oldest
        if oldest is None:
            raise DemoFailed("no request waits")
        # Before the clock moves: a loaded chain starts at today's time, which must not lie behind its newest block.
        stage.anvil.dump_state(self.out / "chain.json")
        stage.anvil.increase_time(oldest.deadline + 1 - escape.exchange.time)
        owners = [self.house, *self.people]
        self._compare(departure, [escape.owned(person.address) for person in owners])
        escape.freeze()
        self.story.say("three days later eve shows the contract the request that missed its deadline: frozen, for good")

    def _compare(self, departure: Departure, owned: list[Owned]) -> None:
        check_balances(owned, self.told)
        self.holders = {a.index for o in owned for a in o.accounts if a.balances}
        self.story.say(
            f"rebuilt from the chain: {len(self.holders)} accounts with a balance, as the operator knew them"
        )

    def leave(self) -> None:
        """Everybody leaves with what they own."""
        self.story.chapter("Everybody leaves with exactly what they own")
        departure = Departure(self.stage, self.exit_artifacts, self.progress)
        owners = [*self.people, self.house]
        for person in owners:
            self.left.append(departure.leave(person))
            self.story.say(f"{person.name}: {', '.join(self.left[-1].steps) or 'has nothing'}")
        self.left.append(departure.pay_for("operator", self.operator_address, self.people[EVE]))
        self.story.say(f"the operator's request fees are paid to its address: {several(self.left[-1].received)}")
        require_equal("accounts left", {index for left in self.left for index in left.exits}, self.holders)

    def summary(self, report: dict[str, Any]) -> dict[str, Any]:
        """Write the end state and the summary, and return the summary."""
        self.stage.anvil.dump_state(self.out / "chain-final.json")
        self._tell_end()
        exchange = self.stage.exchange()
        require_equal("trades in batches", sum(batch["trades"] for batch in self.batches), self.desk.tally.trades)
        require_equal("batches on chain", exchange.batch_number(), len(self.batches))
        summary = {
            "preset": PRESET,
            "accounts": exchange.account_count(),
            "orders_submitted": self.desk.tally.submitted,
            "trades": self.desk.tally.trades,
            "batches": [{name: batch[name] for name in _BATCH_FIELDS} for batch in self.batches],
            "root_on_chain": str(exchange.state_root()),
            "root_rebuilt": report["root_rebuilt"],
            "withdrawn": {symbol: str(amount) for symbol, amount in in_units(self.withdrawn).items()},
            "accounts_with_balance": len(self.holders),
            "escaped_accounts": sum(len(left.exits) for left in self.left),
            "vault_left": self.stage.amounts("vault"),
            "liabilities_left": self.stage.amounts("liabilities"),
            "elapsed_s": round(time.monotonic() - self.started, 1),
        }
        nothing = {token.symbol: "0" for token in TOKENS}
        require_equal("left in the vault", summary["vault_left"], nothing)
        require_equal("still owed", summary["liabilities_left"], nothing)
        _write(self.out / "summary.json", summary)
        self.story.say("")
        self.story.say(
            f"{summary['escaped_accounts']} accounts left with what they owned; the vault is empty, nothing is owed"
        )
        self.story.say(f"summary, deployment and both states of the chain are in {self.out}")
        return summary

    def _tell_end(self) -> None:
        self.story.chapter("The end")
        self.story.batches(self.batches)
        out = {left.name: left.received for left in self.left}
        for name, quanta in self.paid:
            out[name] = {symbol: out[name][symbol] + units for symbol, units in in_units(quanta).items()}
        brought = {person.name: in_units(_brought(person)) for person in self.people}
        brought["finn"]["ETH"] += ETH.units(7) * ETH.quantum
        self.story.say("")
        self.story.people((name, brought.get(name, {}), took) for name, took in out.items())


def _count(batch: dict[str, Any], noun: str) -> str:
    number = batch[f"{noun}s"]
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _once(progress: Progress) -> Progress:
    """Return a progress that says nothing twice in a row: what waits has nothing new to tell."""
    last: list[tuple[str, float | None]] = []

    def tell(stage: str, share: float | None) -> None:
        if last != [(stage, share)]:
            last[:] = [(stage, share)]
            progress(stage, share)

    return tell


def _brought(person: Person) -> Quanta:
    return {token.id: token.units(CAST[person.name].get(token.id, 0)) for token in TOKENS}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def run_verifier(rpc: str, contract: str, progress: Progress) -> dict[str, Any]:
    """Run the verifier's own command and return its report.

    Raises
    ------
    DemoFailed
        If it finds anything wrong.
    """
    command = [sys.executable, "-m", "proofbook.verifier.cli", "--rpc", rpc, "--contract", contract, "--json"]
    told: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            for line in process.stderr:
                told.append(line.rstrip())
                if found := _PROOF.match(told[-1]):
                    progress("the verifier checks proofs", int(found[1]) / int(found[2]))
            output = process.stdout.read()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise DemoFailed("the verifier found something wrong:\n" + "\n".join(told[-20:]) + output)
    report: dict[str, Any] = json.loads(output)
    return report
