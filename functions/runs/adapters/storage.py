"""The user's storage, by S3's protocol."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from runs.errors import RunsError, SecretUnavailable, StorageRefused, StorageUnavailable
from runs.model import QUOTE_LENGTH, clean
from runs.ports import LINK_LIFETIME, StoredObject, StoredPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runs.prefixes import Location

LOG = logging.getLogger(__name__)

_KEYS_REFUSED: Final = frozenset(
    {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
)


class S3Storage:
    """`ports.Storage` on S3, or on what lists keys in order and knows StartAfter as S3 does."""

    def __init__(
        self, client: Callable[[], Any], *, renew: Callable[[], bool] = lambda: False
    ) -> None:
        """Makes no client yet.

        Args:
            client: gives boto3's S3 client, on first use.
            renew: whether `client` gives one with other keys than those that were just refused.
        """
        self.client = client
        self._renew = renew

    def objects(self, place: Location, *, page_size: int, after: str, inline: bool) -> StoredPage:
        """See `ports.Storage`."""
        start = {"StartAfter": after} if after else {}
        with _translated(place.bucket):
            answer = self._listed(
                Bucket=place.bucket, Prefix=place.folder, MaxKeys=page_size, **start
            )
            is_cut = answer["IsTruncated"]  # What isn't a list must not look like an empty one.
            entries = answer.get("Contents", ())
            objects = [
                self._stored(place, entry, inline=inline)
                for entry in entries
                if not entry["Key"].endswith("/")  # A folder by itself.
            ]
        return StoredPage(
            objects=objects, next_after=entries[-1]["Key"] if is_cut and entries else None
        )

    def _listed(self, **request: Any) -> Any:
        """If its keys are refused and there are others by now, it is asked once more."""
        from botocore.exceptions import ClientError  # noqa: PLC0415  # with boto3

        try:
            return self.client().list_objects_v2(**request)
        except ClientError as error:
            if not (_refuses_keys(error) and self._renew()):
                raise
        return self.client().list_objects_v2(**request)

    def _stored(self, place: Location, entry: dict[str, Any], *, inline: bool) -> StoredObject:
        """Signing takes no request; the link is good for this object and for reading alone."""
        key = entry["Key"]
        url = self.client().generate_presigned_url(
            "get_object",
            Params={
                "Bucket": place.bucket,
                "Key": key,
                "ResponseContentDisposition": _disposition(key, inline=inline),
            },
            ExpiresIn=round(LINK_LIFETIME.total_seconds()),
        )
        return StoredObject(
            bucket=place.bucket,
            key=key,
            name=key.removeprefix(place.folder),
            size_bytes=entry["Size"],
            modified_at=entry["LastModified"],
            url=url,
        )


def _disposition(key: str, *, inline: bool) -> str:
    """RFC 6266: what a browser does with the object, and the file's name for it."""
    file_name = quote(key.rpartition("/")[2], safe="")
    return f"{'inline' if inline else 'attachment'}; filename*=UTF-8''{file_name}"


@contextmanager
def _translated(bucket: str) -> Iterator[None]:
    """What went wrong, in texts that can be shown; S3's own go to the log."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # with boto3

    try:
        yield
    except ClientError as error:
        LOG.warning(
            "storage_refused", extra={"bucket": bucket, "error": clean(str(error), QUOTE_LENGTH)}
        )
        raise _in_words(error, bucket) from error
    except BotoCoreError as error:
        LOG.warning(
            "storage_unavailable",
            extra={"bucket": bucket, "error": clean(str(error), QUOTE_LENGTH)},
        )
        raise StorageUnavailable(
            "The user's storage can't be reached at the moment: try again shortly"
        ) from error
    except SecretUnavailable as error:
        raise StorageUnavailable("The key to the user's storage can't be had") from error
    except (KeyError, ValueError) as error:
        LOG.warning(
            "storage_answer_invalid",
            extra={"bucket": bucket, "error": clean(repr(error), QUOTE_LENGTH)},
        )
        raise StorageUnavailable(
            "The user's storage gave no valid list of objects: check that its address speaks S3"
        ) from error


def _refuses_keys(error: Any) -> bool:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in _KEYS_REFUSED or status in {401, 403}


def _in_words(error: Any, bucket: str) -> RunsError:
    """By the code, or else by the HTTP status; what isn't our request's fault may pass."""
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return StorageRefused(
            f"There is no bucket {bucket!r} in the user's storage: create it, or name another one"
        )
    if status in {401, 403}:
        return StorageRefused(
            f"The user's storage doesn't let this service into the bucket {bucket!r}: allow its "
            "key to list the bucket and to read what is in it"
        )
    if 300 <= status < 500 and status != 429:
        return StorageRefused(
            f"The user's storage refuses the request for the bucket {bucket!r} ({code}): check the "
            "bucket's region and the storage's settings"
        )
    return StorageUnavailable(
        f"The user's storage has trouble of its own ({code}): try again shortly"
    )
