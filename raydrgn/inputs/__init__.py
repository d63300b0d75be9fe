"""From a consensus refinement to inputs that are known to be right.

options              what downsampling and back-projection are to make
common_field         the field of view that images of several boxes share
downsampling         stacks and maps in a smaller box
stacks               what a downsampling has written, and what it still has to
fourier_accumulator  coefficients of slices, summed in the space of the volume
insertion            from particle images to slices in an accumulator
reconstruction       from accumulators to maps
backprojection       maps, half maps and their verdict from particles
resolution           correlation of half maps, with a mask and its effect taken out
map_pairs            correlation of any two maps
comparison           how a map relates to a reference
diagnosis            why it agrees with the reference less far than its half maps do
verdict              what a map shows about its inputs, in words
map_grid             a map on the grid of volumes of another box and pixel size
montage              particle images in rows
figures              figures of maps and curves
report               the files of a back-projection
inspection           facts about a file or a run, and what looks wrong
stack_inspection     … of stacks and maps
particle_inspection  … of particle files
array_inspection     … of pickles and NumPy arrays
run_inspection       … of runs
"""
