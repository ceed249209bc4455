"""Handing the native core to the protocol, where there is one: the same answers, faster."""

from __future__ import annotations

from proofbook.operator.sequencer import Verify, make_verify, verify_each
from proofbook.protocol import eddsa, poseidon


def use_native() -> Verify:
    """Let the protocol use the native core in this process, and return how to check signatures in groups.

    Without the core everything works on plain Python.
    """
    try:
        import proofbook_native
    except ImportError:
        return verify_each
    poseidon.use_backend(proofbook_native)
    eddsa.use_backend(proofbook_native)
    return make_verify(proofbook_native.eddsa_verify_many, proofbook_native.poseidon_many)
