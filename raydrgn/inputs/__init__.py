"""From a consensus refinement to inputs that are known to be right.

downsample      stacks and maps in a smaller box
stacks          what a downsampling has written, and what it still has to
insertion       slices of images summed in Fourier space
reconstruction  sums to maps
backproject     maps, half maps and their verdict from particles
resolution      correlation of half maps, with a mask and its effect taken out
verdict         what a map says about its inputs, in words
figures         pictures of maps and curves
inspection      what a file or a run contains, and what looks wrong
"""
