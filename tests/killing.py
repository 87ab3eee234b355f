"""A process that is killed, played within the process of the tests."""

import logging


class Crash(BaseException):
    """The process was killed here."""


def keep_quiet_about_the_killed() -> None:
    """Have asyncio not tell of tasks that nobody waits for any more because their process was killed.

    It does so as they are collected. The traceback is formatted then, for which Python 3.11 parses its lines; and when
    that happens amid the parsing of something else, as hypothesis does it, that breaks off with a SystemError
    (CPython issue 106905).
    """
    logging.getLogger("asyncio").addFilter(_is_of_the_living)


def _is_of_the_living(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], Crash))
