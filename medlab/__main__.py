"""`python -m medlab predict STUDY_DIR --model FILE --out DIR`: a model used on a DICOM study.

Exit status 0: the result is there; 1: refused, with the reason on standard error; 2: wrong usage.
Nothing that is printed names the patient.
"""

import argparse
import sys
import traceback
from types import TracebackType
from typing import NoReturn

from medlab import deploy
from medlab.errors import MedlabError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Usage, without the arguments that were given: a path may name a patient."""
        self.print_usage(sys.stderr)
        self.exit(2, "wrong arguments; --help explains them\n")


def unforeseen(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    """The place of a mistake in the program, without the words of the error or of any path."""
    last = traceback.extract_tb(trace)[-1]
    where = f"{last.filename.rpartition('/')[2]}, line {last.lineno}"
    print(f"failed: {kind.__name__} in {where}; no result was written", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _Parser(prog="python -m medlab", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("predict", help="use a model")
    command.add_argument("study", help="folder of one study of one patient")
    command.add_argument("--model", required=True, help="file that medlab.deploy.save wrote")
    command.add_argument("--out", required=True, help="new folder for the result")
    command.add_argument("--series", help="SeriesNumber or SeriesInstanceUID, if several fit")
    given = parser.parse_args(arguments)
    try:
        result = deploy.predict_study(given.study, given.model, given.out, series=given.series)
    except MedlabError as error:
        print(error, file=sys.stderr)
        return 1
    print(result)
    print("written: result.dcm and summary.html")
    return 0


if __name__ == "__main__":
    sys.excepthook = unforeseen
    sys.exit(main())
