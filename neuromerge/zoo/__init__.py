"""How the bundled models were made: data building, training, publishing.

Nothing here is needed to run the app. To make the models again:

    pip install -e ".[zoo]"                       # resvg_py, which draws the SVG pictures
    apt-get install openclipart-svg nodejs npm    # Open Clip Art drawings; npm fetches the icon and font packages
    python -m neuromerge.zoo build-data           # about five minutes on two cores, most of it drawing
    python -m neuromerge.zoo train                # base and eight experts; --budget-minutes M for a shorter run

The cache (`--cache`, outside the repository) holds the pictures, the resumable state and, unless `--out` says
otherwise, the finished model folder. `--out assets/pictoclip` writes over the bundled one. `train --only digits`
trains one expert again, from the bundled base if there is no other.

`sources` pins and reads the packages, `tasks` says what is asked, `splits` keeps look-alikes apart, `render`
draws, `build` puts these together; `captions`, `augment`, `model` and `train` make the models; `publish` and
`card` measure them and write down what was found.
"""
