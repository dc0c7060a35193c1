"""Waveforms as tables: a column for each channel (PS3.3 C.10.9)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_set import Attribute, DataSet

_SEQUENCE: Final = "WaveformSequence"
#: Sample interpretation → how samples are encoded; companded voice stays as it is.
_FORMATS: Final = {
    "SB": "b", "UB": "B", "MB": "B", "AB": "B", "SS": "h", "US": "H", "SL": "i", "UL": "I",
    "SV": "q", "UV": "Q",
}  # fmt: skip
_MOST_CHANNELS: Final = 1_024


class WaveformError(IsocenterError):
    """A waveform cannot be read; the message says why."""

    error_code = ErrorCode.DECODING


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One channel.

    Attributes:
        unit: of its values; empty: they are as they are stored.
        factor, offset: value = stored × factor + offset.
    """

    label: str
    unit: str = ""
    factor: float = 1.0
    offset: float = 0.0

    @property
    def title(self) -> str:
        """Of its column."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiplexGroup:
    """Channels that were sampled together.

    Attributes:
        samples: of each channel.
        frequency: samples a second; 0: nobody says.
    """

    label: str
    channels: tuple[Channel, ...]
    samples: int
    frequency: float
    _format: str
    _data: Attribute

    def rows(self) -> Iterator[tuple[float, ...]]:
        """Sample by sample, the values of all channels."""
        row = struct.Struct(f"<{len(self.channels)}{self._format}")
        scales = [(channel.factor, channel.offset) for channel in self.channels]
        is_plain = all(scale == (1.0, 0.0) for scale in scales)
        left, rest = self.samples, b""
        for piece in self._data.pieces():
            data = rest + piece
            whole = min(len(data) // row.size, left)
            for values in row.iter_unpack(data[: whole * row.size]):
                if is_plain:
                    yield values
                else:
                    yield tuple(
                        value * factor + offset
                        for value, (factor, offset) in zip(values, scales, strict=True)
                    )
            left -= whole
            rest = data[whole * row.size :]
            if not left:
                return
        raise WaveformError(f"the waveform ends {left} samples too soon")


def waveforms_of(data_set: DataSet) -> list[MultiplexGroup]:
    """The waveforms of an object; none where it has none.

    Raises:
        WaveformError: what it says of them makes no sense.
    """
    return [_group(data_set, number) for number in range(data_set.items(_SEQUENCE))]


def _group(data_set: DataSet, number: int) -> MultiplexGroup:
    at = f"{_SEQUENCE}[{number}]"
    data = data_set.attribute(f"{at}.WaveformData")
    count = _number(data_set, f"{at}.NumberOfWaveformChannels")
    samples = _number(data_set, f"{at}.NumberOfWaveformSamples")
    kind = data_set.text(f"{at}.WaveformSampleInterpretation")
    bits = _number(data_set, f"{at}.WaveformBitsAllocated")
    if data is None or kind not in _FORMATS:
        raise WaveformError(f"waveform {number + 1} has no data, or an unknown interpretation")
    if struct.calcsize(f"<{_FORMATS[kind]}") * 8 != bits:
        raise WaveformError(f"waveform {number + 1} has {int(bits)} bits allocated, and is {kind}")
    if not 1 <= count <= _MOST_CHANNELS:
        raise WaveformError(f"waveform {number + 1} has {int(count)} channels")
    if count * samples * bits > data.length * 8:
        raise WaveformError(f"waveform {number + 1} is shorter than it says")
    return MultiplexGroup(
        label=data_set.text(f"{at}.MultiplexGroupLabel") or f"group {number + 1}",
        channels=tuple(
            _channel(data_set, f"{at}.ChannelDefinitionSequence[{channel}]", channel)
            for channel in range(int(count))
        ),
        samples=int(samples),
        frequency=_number(data_set, f"{at}.SamplingFrequency"),
        _format=_FORMATS[kind],
        _data=data,
    )


def _channel(data_set: DataSet, at: str, number: int) -> Channel:
    label = (
        data_set.text(f"{at}.ChannelLabel")
        or data_set.text(f"{at}.ChannelSourceSequence[0].CodeMeaning")
        or f"channel {number + 1}"
    )
    sensitivity = _number(data_set, f"{at}.ChannelSensitivity", 0)
    if not sensitivity:
        return Channel(label=label)
    return Channel(
        label=label,
        unit=data_set.text(f"{at}.ChannelSensitivityUnitsSequence[0].CodeValue"),
        factor=sensitivity * _number(data_set, f"{at}.ChannelSensitivityCorrectionFactor", 1),
        offset=_number(data_set, f"{at}.ChannelBaseline", 0),
    )


def _number(data_set: DataSet, name: str, default: float = 0) -> float:
    texts = data_set.texts(name)
    try:
        return float(texts[0]) if texts else default
    except ValueError:
        return default
