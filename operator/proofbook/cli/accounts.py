"""`account`, `deposit`, `claim` and `balance`: money in, money out, and where it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from web3 import Web3
from web3.logs import DISCARD

from proofbook.chain.client import TokenInfo
from proofbook.chain.errors import ChainError, ContractRevert, TransactionFailed
from proofbook.cli.output import CliError, Json, JsonFlag, emit, lines, say, table
from proofbook.cli.session import (
    DEFAULT_WALLET,
    POLL_S,
    AccountOption,
    ApiOption,
    ContractOption,
    KeyOption,
    RpcOption,
    Session,
    WalletOption,
    save_wallet,
)
from proofbook.cli.tokens import allowance, held_on_l1, token_of
from proofbook.client.amounts import format_amount, parse_amount
from proofbook.client.answers import get_flag, get_number, get_rows, get_text
from proofbook.client.errors import ApiError, ApiUnreachable
from proofbook.client.models import Token, find_token
from proofbook.protocol.messages import parse_address
from proofbook.protocol.table import ETH_QUANTUM, ETH_TOKEN, RequestKind
from proofbook.verifier.terms import Terms

KEYS_TRIED: Final = 100
account = typer.Typer(no_args_is_help=True, help="Your accounts on the exchange.")

WaitOption = Annotated[
    float, typer.Option("--wait", min=0, max=86_400, help="Seconds to wait until the operator has it; 0 does not wait.")
]
TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN", help="Its symbol, or #id.")]
AmountArgument = Annotated[str, typer.Argument(metavar="AMOUNT", help="In whole tokens, such as 0.5.")]


def wait_for(what: str, seconds: float, check: Callable[[], bool]) -> bool:
    """Wait until something is so, and tell whether it is; an operator that is away is waited for too."""
    until = time.monotonic() + seconds
    told = False
    while time.monotonic() < until:
        try:
            if check():
                return True
        except (ApiError, ApiUnreachable) as error:
            if isinstance(error, ApiError) and error.code != "unknown_account":
                raise
        if not told:
            say(f"waiting for {what}")
            told = True
        time.sleep(POLL_S)
    return False


# --- accounts


@account.command("new")
def new(
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    artifacts: Annotated[
        Path | None,
        typer.Option("--artifacts", metavar="DIR", help="Where the exit circuit's files are. Default: the operator."),
    ] = None,
    any_terms: Annotated[
        bool, typer.Option("--any-terms", help="Also where leaving may take longer, or cost more, than is usual.")
    ] = False,
    wait: WaitOption = 120,
    as_json: JsonFlag = False,
) -> None:
    """Open an account on L1; its trading key is derived from your L1 key.

    Before that you are told how long and how dear leaving may be, which nobody can change later; where that is beyond
    sense, no account is opened. The exit circuit's files are stored in the wallet first and held against the contract's
    hashes: with them and your L1 key alone you can always leave. Without them no account is opened.
    """
    session = Session(wallet, rpc, contract, api, key_file)
    _check_wallet(session)
    _check_terms(session, any_terms)
    files = session.ensure_exit_artifacts(artifacts, wait)
    public = session.get_trader(0).public
    index, receipt = session.signed_exchange.open(public.x, public.y)
    _remember(session, index)
    known = wait_for(f"account {index} to be confirmed", wait, lambda: bool(session.api.account(index)))
    answer: Json = {
        "account": index,
        "owner": session.key.address,
        "trading_key": [str(public.x), str(public.y)],
        "contract": session.contract,
        "wallet": str(session.directory),
        "exit_artifacts": [str(files.zkey), str(files.wasm)],
        "tx": Web3.to_hex(receipt["transactionHash"]),
        "confirmed": known,
    }

    def show(console: Console) -> None:
        lines(console, {name: value for name, value in answer.items() if name != "trading_key"})
        console.print("Next: `proofbook deposit TOKEN AMOUNT`.")

    emit(answer, as_json, show)


def _check_wallet(session: Session) -> None:
    known = session.wallet.contract
    if known and (known != session.contract or session.wallet.chain_id != session.w3.eth.chain_id):
        raise CliError("wallet", f"this wallet is for the exchange {known}", "choose another --wallet for this one")


def _check_terms(session: Session, any_terms: bool) -> None:
    config = session.exchange.config()
    terms = Terms(config.request_window, config.request_spacing, config.exit_fee_cap, config.max_lag)
    say(f"terms: {terms.describe()}")
    if (found := terms.beyond()) and not any_terms:
        raise CliError("terms", "; ".join(found), "stay out, or say --any-terms if you know why")


def _remember(session: Session, index: int) -> None:
    wallet = session.wallet
    wallet.rpc, wallet.api, wallet.contract = session.rpc, session.api_url, session.contract
    # The chain that the trading key is derived for, not what the node says by now.
    wallet.chain_id, wallet.first_block = session.chain_id, session.first_block
    wallet.key_file = session.key_path
    wallet.accounts.append(index)
    save_wallet(session.directory, wallet)


@account.command("list")
def list_accounts(
    wallet: WalletOption = DEFAULT_WALLET,
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    owner: Annotated[str, typer.Option("--owner", metavar="ADDRESS", help="Whose. Default: yours.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """List an owner's open accounts."""
    session = Session(wallet, "", contract, api, key_file)
    whose = owner or session.key.address
    found = [
        {
            "account": get_number(a, "index"),
            "paused": get_flag(a, "paused"),
            "open_orders": len(get_rows(a, "open_orders")),
        }
        for a in session.api.accounts_of(whose)
    ]

    def show(console: Console) -> None:
        rows = [(a["account"], a["open_orders"], "paused" if a["paused"] else "") for a in found]
        table(console, f"Accounts of {whose}", ("account", "open orders", ""), rows)

    emit({"owner": whose, "accounts": found}, as_json, show)


@account.command("change-key")
def change_key(
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    wait: WaitOption = 120,
    as_json: JsonFlag = False,
) -> None:
    """Give an account a new trading key, the next one of your L1 key; its open orders are cancelled.

    Do this when the old one may be known to others. What was traded stays; until the change is confirmed the account
    can't trade.
    """
    session = Session(wallet, rpc, contract, api, key_file, account)
    index = session.account
    number = session.wallet.key_numbers.get(index, 0) + 1
    public = session.get_trader(number).public
    receipt = session.signed_exchange.change_key(index, public.x, public.y)
    _note_key(session, number)
    known = wait_for(
        "the new key to be confirmed",
        wait,
        lambda: _get_key(session) == (public.x, public.y) and not _is_paused(session),
    )
    answer: Json = {
        "account": index,
        "number": number,
        "trading_key": [str(public.x), str(public.y)],
        "tx": Web3.to_hex(receipt["transactionHash"]),
        "confirmed": known,
    }
    emit(answer, as_json, lambda console: lines(console, answer))


@account.command("find-key")
def find_key(
    wallet: WalletOption = DEFAULT_WALLET,
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Find which of your L1 key's trading keys an account has, and note it in the wallet: for a lost wallet."""
    session = Session(wallet, "", contract, api, key_file, account)
    number = _find_number(session)
    _note_key(session, number)
    answer: Json = {"account": session.account, "number": number}
    emit(answer, as_json, lambda console: lines(console, answer))


def _find_number(session: Session) -> int:
    wanted = _get_key(session)
    for number in range(KEYS_TRIED):
        public = session.get_trader(number).public
        if (public.x, public.y) == wanted:
            return number
    raise CliError(
        "unknown_key",
        f"account {session.account} has none of this L1 key's first {KEYS_TRIED} trading keys",
        "is it this L1 key's account? then `proofbook account change-key` gives it one",
    )


def _get_key(session: Session) -> tuple[int, int]:
    found = session.api.account(session.account)
    return get_number(found, "pub_x", 256), get_number(found, "pub_y", 256)


def _is_paused(session: Session) -> bool:
    return get_flag(session.api.account(session.account), "paused")


def _note_key(session: Session, number: int) -> None:
    session.wallet.key_numbers[session.account] = number
    save_wallet(session.directory, session.wallet)


# --- money in


def deposit(
    token: TokenArgument,
    amount: AmountArgument,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    wait: WaitOption = 120,
    as_json: JsonFlag = False,
) -> None:
    """Deposit from L1 into an account; refused without the exit circuit's files in the wallet."""
    session = Session(wallet, rpc, contract, api, key_file, account)
    index, exchange = session.account, session.signed_exchange
    session.ensure_exit_artifacts(wait=wait)
    info, found = find_on_chain(session, token)
    quanta = parse_amount(amount, found)
    _check_funds(session, info, found, quanta)
    if info.id != ETH_TOKEN and allowance(exchange, info, session.key.address) < quanta * info.quantum:
        say(f"approving {amount} {found.symbol}")
        exchange.approve(info, quanta)
    receipt = exchange.deposit(index, info.id, quanta)
    event = exchange.contract.events.RequestQueued().process_receipt(receipt, DISCARD)[0]["args"]
    served = wait_for(
        "the deposit to be credited", wait, lambda: _is_credited(session.api.account(index), int(event["id"]), session)
    )
    answer: Json = {
        "account": index,
        "token": found.symbol,
        "amount": format_amount(quanta, found),
        "request": int(event["id"]),
        "deadline": int(event["deadline"]),
        "tx": Web3.to_hex(receipt["transactionHash"]),
        "credited": served,
    }
    emit(answer, as_json, lambda console: lines(console, answer))


def _is_credited(found: Json, request: int, session: Session) -> bool:
    """Tell whether the operator has confirmed a request; after that its money can be traded with."""
    return get_number(session.api.health(), "next_unconfirmed") > request and bool(found)


def _check_funds(session: Session, info: TokenInfo, token: Token, quanta: int) -> None:
    """Refuse early, with the amounts, what L1 would refuse without them."""
    fee = session.exchange.request_fee(RequestKind.DEPOSIT) * ETH_QUANTUM
    need = quanta * info.quantum + (fee if info.id == ETH_TOKEN else 0)
    held = held_on_l1(session.exchange, info, session.key.address)
    if held < need:
        raise CliError(
            "insufficient_l1_balance",
            f"{session.key.address} holds {format_amount(held // info.quantum, token)} {token.symbol} on L1",
            f"{format_amount(-(-need // info.quantum), token)} are needed, fee included",
        )


def find_on_chain(session: Session, name: str) -> tuple[TokenInfo, Token]:
    """Return a token of the exchange by symbol or id; `UnknownName` if none or several fit."""
    infos = session.exchange.tokens()
    found = find_token([token_of(session.w3, info) for info in infos], name)
    return next(info for info in infos if info.id == found.id), found


# --- money out


def claim(
    token: Annotated[str | None, typer.Argument(metavar="[TOKEN]", help="Symbol or #id. Default: all.")] = None,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have what withdrawals, exits and fees left for you paid out on L1."""
    session = Session(wallet, rpc, contract, key_file=key_file)
    infos = [find_on_chain(session, token)[0]] if token else session.exchange.tokens()
    owner = session.key.address
    paid: list[Json] = []
    refused: list[Json] = []
    last: ChainError | None = None
    for info in infos:
        waiting = session.exchange.claim_of(owner, info.id)
        if not waiting:
            continue
        named = token_of(session.w3, info)
        row = {"token": named.symbol, "amount": format_amount(waiting, named)}
        try:
            receipt = session.signed_exchange.claim(info.id)
            paid.append(row | {"tx": Web3.to_hex(receipt["transactionHash"])})
        except (ContractRevert, TransactionFailed) as error:
            last = error  # one token's trouble holds no other claim back
            refused.append(row | {"reason": error.message})
    if last is not None and not paid:
        raise last
    if not paid:
        hint = "a withdrawal waits here once its batch is on the chain: `proofbook batch list`"
        raise CliError("nothing_to_claim", f"nothing waits for {owner}", hint)

    def show(console: Console) -> None:
        table(console, f"Paid to {owner}", ("token", "amount", "transaction"), [tuple(row.values()) for row in paid])
        if refused:
            table(console, "Refused", ("token", "amount", "reason"), [tuple(row.values()) for row in refused])

    emit({"owner": owner, "paid": paid, "refused": refused}, as_json, show)


def balance(
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show an account's money: on the exchange, waiting to be claimed, and on L1."""
    session = Session(wallet, rpc, contract, api, key_file, account)
    found = session.api.account(session.account)
    owner = f"0x{parse_address(get_text(found, 'owner')):040x}"
    rows = _balances(session, found, owner)
    waiting = get_rows(found, "pending_requests")
    answer: Json = {
        "account": session.account,
        "owner": owner,
        "balances": rows,
        "open_orders": len(get_rows(found, "open_orders")),
        "pending_requests": [{"id": str(get_number(r, "id")), "kind": get_text(r, "kind")} for r in waiting],
    }

    def show(console: Console) -> None:
        columns = ("token", "total", "available", "reserved", "to claim", "on L1")
        shown = [(r["token"], r["total"], r["available"], r["reserved"], r["claim"], r["l1"]) for r in rows]
        table(console, f"Account {answer['account']} of {answer['owner']}", columns, shown)
        console.print(f"{answer['open_orders']} open orders, {len(answer['pending_requests'])} requests waiting on L1")

    emit(answer, as_json, show)


def _balances(session: Session, found: dict[str, Any], owner: str) -> list[Json]:
    """Return a row for every token that the owner has anywhere, amounts in whole tokens."""
    inside = {get_number(row, "token"): row for row in get_rows(found, "balances")}
    rows: list[Json] = []
    for info in session.exchange.tokens():
        token = token_of(session.w3, info)
        row = inside.get(info.id, {"total": "0", "available": "0", "reserved": "0"})
        quanta = {name: get_number(row, name) for name in ("total", "available", "reserved")}
        quanta["claim"] = session.exchange.claim_of(owner, info.id)
        held = held_on_l1(session.exchange, info, owner)
        if any(quanta.values()) or held:
            shown = {name: format_amount(amount, token) for name, amount in quanta.items()}
            rows.append({"token": token.symbol, "id": info.id, **shown, "l1": _units(held, token)})
    return rows


def _units(units: int, token: Token) -> str:
    """Return an L1 amount in whole tokens, which may be finer than a quantum."""
    return format_amount(units, Token(token.id, token.symbol, 1, token.decimals))
