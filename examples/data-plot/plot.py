"""Draws the second column of a CSV file over the first, as SVG."""

import csv
import sys

WIDTH, HEIGHT = 400, 200


def points(rows):
    xs, ys = zip(*rows)
    across = WIDTH / (max(xs) - min(xs) or 1)
    up = HEIGHT / (max(ys) - min(ys) or 1)
    return [((x - min(xs)) * across, HEIGHT - (y - min(ys)) * up) for x, y in rows]


def main(source, target):
    with open(source, newline="") as file:
        rows = [(float(x), float(y)) for x, y in list(csv.reader(file))[1:]]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points(rows))
    with open(target, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">')
        file.write(f'<polyline fill="none" stroke="black" points="{line}"/></svg>\n')
    print(f"{len(rows)} points in {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
