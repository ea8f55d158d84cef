"""Draws terminals as an SVG: what `tmux capture-pane -p -e` printed, with its colours.

Usage: terminal-picture.py OUTPUT.svg (TITLE CAPTURE.txt)...
"""

import re
import sys
import unicodedata
from html import escape

COLUMN, ROW, SIZE, PAD, BAR = 8.4, 18, 14, 14, 30
GROUND, TEXT, FRAME = "#16181d", "#d8dbe2", "#2a2e37"
COLOURS = ["#3b4048", "#ef6b73", "#8fce7a", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#abb2bf"]
BRIGHT = ["#7d8590", "#ff8b92", "#a5e08f", "#f0d399", "#6cb6ff", "#d99bea", "#7fd4de", "#ffffff"]


def runs(line):
    """Characters of a line with their columns and styles."""
    style = {"fg": TEXT, "bg": None, "bold": False, "italic": False, "reverse": False}
    column = 0
    for code, text in re.findall(r"\x1b\[([0-9;]*)m|([^\x1b]+)", line):
        if not text:
            change(style, [int(number or 0) for number in code.split(";")])
            continue
        for character in text:
            if unicodedata.combining(character):
                continue
            wide = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            yield column, wide, character, dict(style)
            column += wide


def change(style, numbers):
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            style.update(fg=TEXT, bg=None, bold=False, italic=False, reverse=False)
        elif number == 1:
            style["bold"] = True
        elif number == 3:
            style["italic"] = True
        elif number == 7:
            style["reverse"] = True
        elif 30 <= number <= 37:
            style["fg"] = COLOURS[number - 30]
        elif 90 <= number <= 97:
            style["fg"] = BRIGHT[number - 90]
        elif 40 <= number <= 47:
            style["bg"] = COLOURS[number - 40]
        elif number == 39:
            style["fg"] = TEXT
        elif number == 49:
            style["bg"] = None
        elif number in (38, 48):
            which = "fg" if number == 38 else "bg"
            if numbers[:1] == [5]:
                index = numbers[1]
                style[which] = COLOURS[index] if index < 8 else BRIGHT[index - 8] if index < 16 else TEXT
                del numbers[:2]
            else:
                style[which] = "#%02x%02x%02x" % tuple(numbers[1:4])
                del numbers[:4]


def terminal(out, left, title, lines, columns):
    width, height = columns * COLUMN + 2 * PAD, len(lines) * ROW + 2 * PAD + BAR
    out.append(f'<rect x="{left}" y="0" width="{width:.1f}" height="{height}" rx="9" fill="{GROUND}" stroke="{FRAME}"/>')
    for index, colour in enumerate(["#ef6b73", "#e5c07b", "#8fce7a"]):
        out.append(f'<circle cx="{left + 18 + index * 17}" cy="16" r="5" fill="{colour}"/>')
    out.append(f'<text x="{left + width / 2:.1f}" y="20" fill="#7d8590" text-anchor="middle">{escape(title)}</text>')
    for row, line in enumerate(lines):
        top = BAR + PAD + row * ROW
        pending = None
        for column, wide, character, style in [*runs(line), (None, 0, "", None)]:
            if style and style["reverse"]:
                style["fg"], style["bg"] = style["bg"] or GROUND, style["fg"]
            joins = pending and style == pending[3] and wide == 1 and pending[4] and column == pending[1]
            if joins and ord(character) < 0x2190:
                pending = (pending[0], column + 1, pending[2] + character, style, True)
                continue
            if pending:
                draw(out, left, top, pending)
            if style:
                pending = (column, column + wide, character, style, wide == 1 and ord(character) < 0x2190)
    return width, height


def draw(out, left, top, run):
    start, end, text, style, _ = run
    x, width = left + PAD + start * COLUMN, (end - start) * COLUMN
    if style["bg"]:
        out.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{ROW}" fill="{style["bg"]}"/>')
    if not text.strip():
        return
    boxes = {"─": (0, ROW / 2, width, 1), "│": (width / 2, 0, 1, ROW), "▌": (0, 0, width / 2, ROW), "▐": (width / 2, 0, width / 2, ROW)}
    if text in boxes:
        dx, dy, wide, high = boxes[text]
        out.append(f'<rect x="{x + dx:.1f}" y="{top + dy}" width="{wide:.1f}" height="{high}" fill="{style["fg"]}"/>')
        return
    look = (' font-weight="bold"' if style["bold"] else "") + (' font-style="italic"' if style["italic"] else "")
    fit = f' textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs"' if len(text) > 1 else ""
    out.append(f'<text x="{x:.1f}" y="{top + 14}" fill="{style["fg"]}"{look}{fit}>{escape(text)}</text>')


def main():
    output, rest = sys.argv[1], sys.argv[2:]
    out, left, height = [], 0, 0
    for title, path in zip(rest[::2], rest[1::2]):
        with open(path, encoding="utf-8") as capture:
            lines = capture.read().rstrip("\n").split("\n")
        columns = max(column + wide for line in lines for column, wide, _, _ in runs(line))
        width, high = terminal(out, left, title, lines, columns)
        left, height = left + width + 16, max(height, high)
    width = left - 16
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {width + 2:.0f} {height + 2}" width="{width + 2:.0f}"'
    font = "font-family=\"'DejaVu Sans Mono', Menlo, Consolas, 'Noto Color Emoji', monospace\""
    with open(output, "w", encoding="utf-8") as svg:
        svg.write(f'{head} {font} font-size="{SIZE}" xml:space="preserve">\n' + "\n".join(out) + "\n</svg>\n")


main()
