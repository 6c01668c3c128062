"""Writes the small JPEGs of this folder, one a way of coding them: python3 make.py (Pillow 10 or later).

Every file is 37 x 29 pixels, so that no side is whole blocks: red grows to the right, green downwards, noise is added. Those in
flat colours say in their names what they are.
"""

import os

import numpy
from PIL import Image

os.chdir(os.path.dirname(os.path.abspath(__file__)))
rows, columns = numpy.mgrid[0:29, 0:37]
levels = numpy.stack([columns * 7, rows * 8, (rows * columns) % 256], -1)
levels = numpy.clip(levels + numpy.random.default_rng(0).integers(-20, 20, levels.shape), 0, 255)
colour = Image.fromarray(levels.astype(numpy.uint8))
grey = colour.convert("L")


def write(name, image, **options):
    image.save(name + ".jpg", quality=60, optimize=True, **options)


write("baseline-444", colour, subsampling=0)
write("baseline-422", colour, subsampling=1)
write("baseline-420", colour, subsampling=2)
write("baseline-grey", grey)
write("baseline-restarts", colour, restart_marker_blocks=2)
write("progressive-420", colour, progressive=True)
write("progressive-grey", grey, progressive=True)
write("progressive-restarts", colour, progressive=True, restart_marker_rows=1)
# Adobe's inverted ink: no cyan, full magenta and yellow, no black. It is seen as red.
write("cmyk-red", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))
