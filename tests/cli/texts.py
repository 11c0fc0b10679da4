#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Help, man page, completions, -version: texts.py PVEMU KERNEL_DIR [TEST...]."""
import os
import shutil
import subprocess

from harness import Skip, check, check_golden, check_match, main, run, test


def text(folder, *args):
    result = run(folder, *args)
    check((result.returncode, result.stderr), (0, b""))
    return result.stdout


@test
def short_help(folder):
    """-h"""
    got = text(folder, "-h")
    check_golden("help.txt", got)
    check(got, text(folder, "help"))
    assert len(got.splitlines()) <= 25, "more than one screen"


@test
def full_help(folder):
    """help all"""
    got = text(folder, "help", "all")
    check_golden("help-all.txt", got)
    check(got, text(folder, "-help"))
    check(got, text(folder, "run", "--help"))


@test
def exit_codes(folder):
    """help exit-codes"""
    check_golden("exit-codes.txt", text(folder, "help", "exit-codes"))


@test
def no_arguments(folder):
    """no arguments: help on stderr, 125"""
    result = run(folder)
    check((result.returncode, result.stdout), (125, b""))
    check(result.stderr, text(folder, "-h"))


@test
def version(folder):
    """-version names the libraries"""
    got = text(folder, "-version")
    check_match(r"^pvemu [0-9.]+\nglib [0-9.]+\nlibslirp [0-9.]+\nlibext2fs [0-9.]+\nlibseccomp [0-9.]+\n$", got)


@test
def man_page(folder):
    """man page has no warnings"""
    path = os.path.join(folder, "pvemu.1")
    with open(path, "wb") as f:
        f.write(text(folder, "help", "man"))
    if shutil.which("mandoc"):
        command = ["mandoc", "-T", "lint", "-W", "warning", path]
    elif shutil.which("groff"):
        command = ["groff", "-ww", "-man", "-T", "ascii", "-z", path]
    else:
        raise Skip("neither mandoc nor groff")
    result = subprocess.run(command, capture_output=True, timeout=30, check=False, text=True)
    # The page has no date on purpose: builds are to be reproducible.
    check([line for line in (result.stdout + result.stderr).splitlines() if "missing date" not in line], [])


def check_shell(folder, topic, *command):
    if not shutil.which(command[0]):
        raise Skip(f"no {command[0]}")
    path = os.path.join(folder, "completion")
    with open(path, "wb") as f:
        f.write(text(folder, "help", topic))
    result = subprocess.run([*command, path], capture_output=True, timeout=30, check=False)
    check((result.returncode, result.stderr), (0, b""))
    return path


@test
def bash_syntax(folder):
    """bash completion: syntax"""
    check_shell(folder, "bash", "bash", "-n")


@test
def zsh_syntax(folder):
    """zsh completion: syntax"""
    check_shell(folder, "zsh", "zsh", "-n")


@test
def fish_syntax(folder):
    """fish completion: syntax"""
    check_shell(folder, "fish", "fish", "--no-execute")


@test
def bash_completes(folder):
    """bash completion: what it offers"""
    path = check_shell(folder, "bash", "bash", "-n")
    with open(os.path.join(folder, "a file"), "wb"):
        pass

    def offered(*words):
        script = (f". '{path}'; cd '{folder}'; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _pvemu; "
                  "printf '%s\\n' \"${COMPREPLY[@]}\"")
        result = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, timeout=30, check=True,
                                text=True)
        return result.stdout.splitlines()

    check(offered("pvemu", "-sna"), ["-snapshot"])
    check(offered("pvemu", "sh"), ["shutdown"])
    check(offered("pvemu", "-net", "u"), ["user"])
    check(offered("pvemu", "-disk", "a"), ["a file"])
    check(offered("pvemu", "-m", ""), [""])


@test
def write_fails(folder):
    """a text that cannot be written is an error"""
    with open("/dev/full", "wb") as full:
        result = run(folder, "help", "all", stdout=full)
    check((result.returncode, result.stderr), (125, b"pvemu: error: cannot write: No space left on device\n"))


main()
