"""What can go wrong with a job, told in words for the person whose job it is.

JobTrouble
├── InputTrouble        the input is at fault: change it or its prefix
│   ├── NoSuchBucket
│   ├── NothingThere
│   └── BrokenFile
└── StorageTrouble      the storage is at fault, or the way to it
    ├── StorageRefused
    └── StorageUnreachable
JobCancelled            somebody asked for the job to end
"""

from __future__ import annotations


class JobTrouble(Exception):
    """A job can't go on; the text is its `error_message`."""


class InputTrouble(JobTrouble):
    """The caller can mend it."""


class NoSuchBucket(InputTrouble):
    """A prefix names a bucket that the storage doesn't have."""


class NothingThere(InputTrouble):
    """No object lies below the input prefix, or one that was listed is gone."""


class BrokenFile(InputTrouble):
    """A file isn't what its name says."""


class StorageTrouble(JobTrouble):
    """The caller can't mend it."""


class StorageRefused(StorageTrouble):
    """The storage answered, and with an error."""


class StorageUnreachable(StorageTrouble):
    """The storage didn't answer."""


class JobCancelled(Exception):
    """Somebody asked for the job to end, and it did."""
