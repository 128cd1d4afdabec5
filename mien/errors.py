"""The errors that mien raises: what must hold, what was given, what to do.

MienError
├── UsageError            a wrong argument or option
│   ├── SpecError         a specification or study file that cannot be read
│   ├── DataError         images, labels or folders that do not fit
│   ├── StoreError        a run that is missing, altered or cannot be written
│   ├── WeightsError      pretrained weights that are not available
│   └── LeakageError      a test set that holds what training has seen
├── GateRefused           a release that a licence, missing consent or the audit forbids
├── TrainingError         a training that diverged
├── AuditFailed           a database that failed a check of the audit
├── WorkerDied            a process that was killed, or crashed, during a job
└── TrialsFailed          a study of which some trials failed and the others are done
"""


class MienError(Exception):
    """An error with a message for the user; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(MienError):
    """The command was given something that it cannot work with."""

    exit_code = 2


class SpecError(UsageError):
    """A specification is not valid."""


class DataError(UsageError):
    """Images, labels or a folder are not as they must be."""


class StoreError(UsageError):
    """A run is missing, altered, or the store cannot be written."""


class WeightsError(UsageError):
    """Pretrained weights are not available."""


class LeakageError(UsageError):
    """A test set holds subjects, clips or frames that training has seen."""


class GateRefused(MienError):
    """A release must not be made or sent: a licence, a person's picture or the audit forbids it."""

    exit_code = 3


class TrainingError(MienError):
    """A training diverged and was stopped."""


class AuditFailed(MienError):
    """A check failed, and the command was to fail with it."""

    exit_code = 4


class WorkerDied(MienError):
    """A process was killed, or crashed, during a job."""


class TrialsFailed(MienError):
    """Some jobs of a study, or of a database, failed."""

    exit_code = 5
