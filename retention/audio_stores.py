"""Which store of audio a cell has: a directory, or a bucket, whose library is an extra."""

from pathlib import Path

from retention.audio import AudioStore, LoggedAudio
from retention.audio_directory import AudioDirectory
from retention.cell_settings import CellSettings
from retention.errors import SettingsError
from retention.logged_directory import LoggedDirectory


def open_audio(settings: CellSettings) -> tuple[AudioStore, LoggedAudio]:
    """Return where the audio of jobs is, and that of the request log. Raises SettingsError."""
    if settings.is_audio_in_directory:
        return AudioDirectory(Path(settings.audio)), LoggedDirectory(Path(settings.audio))
    try:
        from retention.audio_objects import AudioObjects, LoggedObjects  # noqa: PLC0415 - their library is an extra
        from retention.bucket import open_bucket  # noqa: PLC0415 - likewise
    except ImportError:
        raise SettingsError("audio: object stores need an extra: pip install 'volant[object-store]'") from None
    bucket = open_bucket(settings.audio, settings.audio_credentials_file)
    return AudioObjects(bucket), LoggedObjects(bucket)
