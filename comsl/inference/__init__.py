"""Audio -> text: decoding, segmentation, translation of files, subtitles."""
