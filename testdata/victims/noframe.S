/* A function with neither a frame pointer nor call frame information. */
    .text
    .globl  without_cfi
    .type   without_cfi, @function
without_cfi:
    sub     $40, %rsp
    movq    $0, 8(%rsp)
    mov     %edi, 16(%rsp)
    call    *%rsi
    add     16(%rsp), %eax
    add     $40, %rsp
    ret
    .size   without_cfi, . - without_cfi
    .section .note.GNU-stack, "", @progbits
