"""A ledger that cannot be written: reading goes on, the fault is told, and goes away by itself."""

import asyncio

import pytest

from agent_core.contracts.errors import LedgerFailed

from .conftest import PUT, kernel


def read_only(ledger, *, on):
    """Let the connection be as on a file system that the kernel made read-only meanwhile."""
    ledger._db.execute(f"PRAGMA query_only = {int(on)}")


def test_what_cannot_be_written_is_told_and_reading_goes_on(book):
    async def body(ledger):
        read_only(ledger, on=True)
        with pytest.raises(LedgerFailed, match="readonly"):
            await ledger.write(PUT, lambda tx: tx.put_kernel(kernel("k2")))
        assert "readonly" in ledger.fault.why
        since = ledger.fault.since
        await ledger.probe()
        assert ledger.fault.since == since
        return [row.kernel_id for row in await ledger.read(lambda tx: tx.kernels())]

    book.fill("k1")
    assert book.use(body)[1] == ["k1"]


def test_a_fault_is_gone_once_something_can_be_written_again(book):
    async def body(ledger):
        read_only(ledger, on=True)
        with pytest.raises(LedgerFailed):
            await ledger.write(PUT, lambda tx: tx.put_kernel(kernel("k2")))
        read_only(ledger, on=False)
        await ledger.probe()
        return ledger.fault

    book.fill("k1")
    assert book.use(body)[1] is None


def test_a_ledger_without_a_fault_is_not_probed(book):
    async def body(ledger):
        await ledger.probe()
        return ledger.commits

    book.fill("k1")
    assert book.use(body)[1] == 0


def test_an_error_of_the_database_inside_one_transaction_is_ours(book):
    def broken(tx):
        tx._db.execute("SELECT nothing FROM nowhere")

    async def body(ledger):
        good = ledger.write(PUT, lambda tx: tx.put_kernel(kernel("k2")))
        return await asyncio.gather(ledger.write(PUT, broken), good, return_exceptions=True)

    book.fill("k1")
    bad, good = book.use(body)[1]
    assert isinstance(bad, LedgerFailed)
    assert good is None
    assert book.names() == ["k1", "k2"]
