"""The first program of a kernel: a few instructions, so that nothing can come before the loader.

A dynamic loader obeys variables of its environment (``LD_PRELOAD`` and its like), which in a kernel
are meant for the user's programs and the image's C library, and would lead the bundle's own loader
astray. The launcher is linked statically, and so obeys none. It changes the first byte of the name
of every variable that begins with ``LD_`` to 1, which the daemon changes back for what it starts,
and becomes the program that its arguments name::

    for (char **each = envp; *each; each++)
        if (!strncmp(*each, "LD_", 3))
            **each = 1;
    execve(argv[1], argv + 1, envp);
    _exit(127);

Written as instructions since building a bundle shall need no compiler; a test assembles them.
"""

from __future__ import annotations

import platform
import struct
from typing import Final

HIDDEN: Final = "\x01D_"
"""How the names of hidden variables begin."""

X86_64: Final = """
    mov rsi, [rsp]
    lea rdx, [rsp+rsi*8+16]
    mov rbx, rdx
1:  mov rdi, [rbx]
    test rdi, rdi
    jz 3f
    mov eax, [rdi]
    and eax, 0x00ffffff
    cmp eax, 0x005f444c
    jne 2f
    mov byte ptr [rdi], 1
2:  add rbx, 8
    jmp 1b
3:  mov rdi, [rsp+16]
    lea rsi, [rsp+16]
    mov eax, 59
    syscall
    mov edi, 127
    mov eax, 60
    syscall
"""
AARCH64: Final = """
    ldr x0, [sp]
    add x2, sp, #16
    add x2, x2, x0, lsl #3
    mov x3, x2
1:  ldr x4, [x3], #8
    cbz x4, 3f
    ldrb w5, [x4]
    cmp w5, #'L'
    b.ne 1b
    ldrb w5, [x4, #1]
    cmp w5, #'D'
    b.ne 1b
    ldrb w5, [x4, #2]
    cmp w5, #'_'
    b.ne 1b
    mov w5, #1
    strb w5, [x4]
    b 1b
3:  ldr x0, [sp, #16]
    add x1, sp, #16
    mov x8, #221
    svc #0
    mov x0, #127
    mov x8, #93
    svc #0
"""
CODE: Final = {
    "x86_64": bytes.fromhex(
        "488b3424488d54f4104889d3488b3b4885ff74178b0725ffffff003d4c445f007503c607014883c308ebe1"
        "488b7c2410488d742410b83b0000000f05bf7f000000b83c0000000f05"
    ),
    "aarch64": bytes.fromhex(
        "e00340f9e2430091420c008be30302aa648440f8a40100b485004039bf30017181ffff5485044039bf100171"
        "21ffff5485084039bf7c0171c1feff542500805285000039f3ffff17e00b40f9e1430091a81b80d2010000d4"
        "e00f80d2a80b80d2010000d4"
    ),
}
"""The instructions by machine, as `X86_64` and `AARCH64` are assembled."""

_MACHINES: Final = {"x86_64": 62, "aarch64": 183}
_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56
_EXECUTABLE, _READABLE_EXECUTABLE, _PT_LOAD = 2, 5, 1


def launcher(machine: str | None = None) -> bytes | None:
    """Write the launcher's program for a machine; None where there is none for it."""
    name = machine or platform.machine()
    if name not in CODE:
        return None
    code = CODE[name]
    size = _HEADERS + len(code)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", _EXECUTABLE, _MACHINES[name], 1, _BASE + _HEADERS, 64, 0, 0,
        64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack(
        "<IIQQQQQQ", _PT_LOAD, _READABLE_EXECUTABLE, 0, _BASE, _BASE, size, size, 0x1000
    )
    return head + segment + code
