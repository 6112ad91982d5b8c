"""`python -m bridge` is `callbridge`."""

from __future__ import annotations


def main() -> None:
    """The command's entry point; imports late, so that `import bridge` stays light."""
    from bridge.cli import run

    run()


if __name__ == "__main__":
    main()
