"""Read a folder in the layout of CASME II, from the public description of the set alone.

    python examples/read_casme2_layout.py FOLDER

The folder has Cropped/subNN/EPxx_yy/reg_imgN.jpg and a coding sheet, CASME2-coding-*.xlsx, with
the columns Subject, Filename, OnsetFrame, ApexFrame, OffsetFrame, Action Units and Estimated
Emotion (Yan et al. 2014). This program needs pandas, openpyxl and Pillow, and nothing of mien: it
shows that clips from `mien export --format casme2` are read by programs that do not know mien.
"""

import sys
from pathlib import Path

import pandas as pd
from PIL import Image


def read_clips(folder: Path) -> pd.DataFrame:
    """Return one row for each clip of the sheet, with its frames from onset to offset.

    Columns: subject, clip, emotion, action_units, onset, apex (-1 if the sheet has none), offset,
    and frames, the paths of the files that exist, in the order of time.
    """
    (sheet,) = sorted(folder.glob("CASME2-coding-*.xlsx"))
    rows = pd.read_excel(sheet, dtype={"Subject": str})
    clips = []
    for _, row in rows.iterrows():
        home = folder / "Cropped" / f"sub{row['Subject']}" / row["Filename"]
        numbers = range(int(row["OnsetFrame"]), int(row["OffsetFrame"]) + 1)
        paths = [home / f"reg_img{number}.jpg" for number in numbers]
        clips.append(
            {
                "subject": row["Subject"],
                "clip": row["Filename"],
                "emotion": row["Estimated Emotion"],
                "action_units": str(row["Action Units"]),
                "onset": int(row["OnsetFrame"]),
                "apex": -1 if row["ApexFrame"] == "/" else int(row["ApexFrame"]),
                "offset": int(row["OffsetFrame"]),
                "frames": [path for path in paths if path.is_file()],
            }
        )
    return pd.DataFrame(clips)


def main() -> None:
    """Print the numbers of clips, subjects and frames of each emotion, and the size of a frame."""
    clips = read_clips(Path(sys.argv[1]))
    for emotion, group in clips.groupby("emotion"):
        frames = sum(len(paths) for paths in group["frames"])
        print(
            f"{emotion}: {len(group)} clips of {group['subject'].nunique()} subjects, {frames} "
            "frames"
        )
    with Image.open(clips["frames"].iloc[0][0]) as picture:
        print(f"frames are {picture.width} x {picture.height}, {picture.mode}")


if __name__ == "__main__":
    main()
