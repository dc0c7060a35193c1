"""Pixels of images: transfer syntaxes, decoding, encoding and transcoding, frame by frame."""
