"""One run, on disk.

directory   every file name of a run
config      everything that decides the result, as config.yaml
manifest    what is finished, with sizes and checksums
state       a resumable state, as bytes
weights     a decoder and its latents, from our runs and from cryoDRGN's
"""
