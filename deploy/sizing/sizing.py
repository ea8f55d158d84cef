#!/usr/bin/env python3
"""How many machines, disks and dollars a number of users takes: the arithmetic behind docs/operations/sizing.md.

    deploy/sizing/sizing.py            prints the tables
    deploy/sizing/sizing.py --write    brings the tables of sizing.md up to date
    deploy/sizing/sizing.py --check    fails if they differ from what it prints

Needs Python 3.9 and nothing else. To ask for your own numbers change INPUTS and LOADS below, and run it.
"""

import difflib
import math
import os
import sys

# ----------------------------------------------------------------------------------------------------------------------
# What goes in. Three columns: good, middle and bad for whoever pays. The arithmetic is done three times, so "good" is
# everything good at once and "bad" everything bad at once: the truth lies between.
#
# MEASURED: by us, with tidings-load (docs/load.md); good and bad are our guess around it.
# ASSUMED: not measured. Those marked (!) move the result most, and are the first to replace by figures of your own.
# CHOSEN: a decision of whoever builds it.
# PRICE: a round number near the public list prices of large clouds; rented machines elsewhere cost a half to a tenth.

MEASURED, ASSUMED, CHOSEN, PRICE = "measured", "assumed", "chosen", "price"

# fmt: off
INPUTS = [
    # name, what it is, good, middle, bad, where it is from, remark
    ("What people do",),
    ("peak", "the busiest minute, over the average", 2, 3, 4, ASSUMED, ""),
    ("online", "sessions open at the peak for each daily user", 0.15, 0.30, 0.60, ASSUMED, "(!) phones and desks together; apps that sleep have none"),
    ("deliveries_each", "sessions to which a message is pushed", 2, 4, 8, ASSUMED, "the other's devices, my own others, groups"),
    ("heartbeat_s", "seconds between heartbeats", 180, 120, 45, ASSUMED, "30 by default, up to 300 for phones; (!) the store is asked once in each"),
    ("connects_day", "connects of a user a day", 5, 20, 50, ASSUMED, ""),

    ("A node of Tidings",),
    ("node_vcpu", "vCPU of a machine", 8, 8, 8, CHOSEN, "with 4 GB for each"),
    ("node_sessions", "sessions of a machine at most", 500_000, 300_000, 100_000, ASSUMED, "the default of cluster.sessions_max is 100,000; more is a matter of memory"),
    ("session_kb", "KB of memory for a session", 6.4, 6.4, 20, MEASURED, "middle: 2.35 in the process and 4.04 in the kernel; idle, embedded store"),
    ("message_us", "µs of CPU for a message", 200, 450, 900, MEASURED, "(!) middle: one node, one Cassandra node, 360 messages a second, what a node does all the time included; busier nodes need less"),
    ("delivery_us", "µs of CPU for a delivery", 2, 4, 8, MEASURED, "middle: 518,000 a second on a machine of two cores, generator included, so 3.9 at most; within one node"),
    ("heartbeat_us", "µs of CPU for a heartbeat", 20, 40, 80, ASSUMED, ""),
    ("connect_us", "µs of CPU for a connect", 200, 500, 1_000, ASSUMED, "hello, inbox, first pages"),

    ("Cassandra",),
    ("cassandra_vcpu", "vCPU of a machine", 16, 16, 16, CHOSEN, "with 4 GB for each, and NVMe"),
    ("copies", "copies of everything", 3, 3, 3, CHOSEN, ""),
    ("statements", "statements for a message", 3, 3, 3, ASSUMED, "body, conditional batch, heads; marks are gathered"),
    ("store_message_us", "µs of CPU for a message, all copies together", 1_000, 3_000, 13_000, ASSUMED, "(!) bad: what one copy cost in a JVM of a minute's age, times three"),
    ("store_heartbeat_us", "µs of CPU for a heartbeat's read", 100, 200, 400, ASSUMED, "(!) an inbox, at a quorum"),
    ("store_connect_us", "µs of CPU for a connect's reads", 300, 600, 1_200, ASSUMED, ""),
    ("message_bytes", "bytes on disk for a message, one copy", 240, 350, 600, MEASURED, "100 bytes of text: body, envelope, client id, marks; compressed; texts of people compress less"),
    ("envelope_bytes", "of these, what stays for 30 days after the body went", 120, 200, 400, ASSUMED, ""),
    ("waiting_days", "days until everybody has a message", 0.5, 1, 3, ASSUMED, "retention `until_delivered`, the mean"),
    ("disk_fill", "how full a disk may be", 0.7, 0.6, 0.5, CHOSEN, "compaction and repair need room"),
    ("disk_tb", "TB of disk in a machine", 8, 6, 4, CHOSEN, "more makes joining and repairs slow"),

    ("NATS",),
    ("nats_vcpu", "vCPU of a machine", 8, 8, 8, CHOSEN, ""),
    ("nats_rate", "messages a second through a machine", 2_000_000, 1_000_000, 500_000, ASSUMED, "core NATS, some 200 bytes each"),
    ("nats_each", "messages on NATS for one of a user", 4, 8, 16, ASSUMED, "the entry to the nodes concerned, ticks back, typing"),

    ("HAProxy, with TLS",),
    ("proxy_vcpu", "vCPU of a machine", 8, 8, 8, CHOSEN, "with 4 GB for each"),
    ("proxy_kb", "KB of memory for a session", 30, 50, 80, ASSUMED, "two sockets, TLS"),
    ("proxy_fill", "how full the memory may be", 0.6, 0.6, 0.5, CHOSEN, ""),
    ("relay_us", "µs of CPU for a frame", 5, 10, 20, ASSUMED, ""),
    ("handshake_us", "µs of CPU for a TLS handshake", 300, 500, 1_500, ASSUMED, ""),

    ("All machines",),
    ("busy", "how busy at the peak", 0.6, 0.5, 0.4, CHOSEN, ""),
    ("zones", "room for a zone of three that is lost", 1.5, 1.5, 1.5, CHOSEN, "not for Cassandra: the other two copies do the work, within the reserve above"),

    ("Media and lines",),
    ("stored_once", "media that is stored, of what is sent", 0.7, 0.8, 1.0, ASSUMED, "the same file is stored once"),
    ("downloads", "downloads of a file", 1, 1.5, 3, ASSUMED, ""),
    ("delivery_bytes", "bytes on the line for a delivery", 200, 400, 800, ASSUMED, "ticks, TLS and TCP included"),
    ("heartbeat_bytes", "bytes on the line for a heartbeat", 80, 120, 200, ASSUMED, "both ways, one of them paid"),

    ("Prices, dollars",),
    ("usd_vcpu", "a vCPU with 4 GB, a month", 20, 30, 40, PRICE, ""),
    ("usd_disk", "a TB of NVMe, a month", 50, 80, 120, PRICE, ""),
    ("usd_object", "a TB of object storage, a month", 15, 20, 25, PRICE, "requests not counted"),
    ("usd_egress", "a TB to the world", 10, 50, 80, PRICE, "traffic between zones not counted"),
]

LOADS = [
    # key, name, daily users, messages a day, TB of media a day
    ("million", "50 million daily users", 50_000_000, 2_000_000_000, 10),
    # 1.2 million messages a second on average; media as much for each user as above.
    ("billion", "A billion daily users", 1_000_000_000, 1_200_000 * 86_400, 200),
]

# The embedded store on one machine. Messages and media of a user as in the first of LOADS.
SINGLE_US = (37, 40, 44)          # µs of CPU for a message, measured: 2 cores, generator beside, all receipts.
SINGLE_MESSAGE_BYTES = (300, 400, 800)  # On disk, assumed: not measured.
SINGLE_USERS = (1_000, 10_000, 100_000, 1_000_000)
# fmt: on

# ----------------------------------------------------------------------------------------------------------------------

COLUMNS = ("good", "middle", "bad")
DAY_S = 86_400
MONTH_DAYS = 30.4
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/operations/sizing.md")


def number(value):
    """To three significant digits; more would claim to know more."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    rounded = round(value, 2 - math.floor(math.log10(abs(value))))
    text = f"{rounded:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact(value):
    return f"{value:,}"


class Column(dict):
    """Values by name, as in `v.peak`."""

    __getattr__ = dict.__getitem__


class Sheet:
    """Rows, each worked out for the three columns from the inputs and the rows before."""

    def __init__(self, **load):
        self.columns = [
            Column({**{row[0]: row[2 + at] for row in INPUTS if len(row) > 1}, **load}) for at in range(len(COLUMNS))
        ]

    def row(self, name, what, formula, work_out, digits=number):
        """`formula` says how, with the numbers of the middle column in the place of {names}."""
        for column in self.columns:
            column[name] = work_out(column)
        middle = {key: number(value) for key, value in self.columns[1].items()}
        cells = [digits(column[name]) for column in self.columns]
        return f"| {what} | {formula.format(**middle)} | {' | '.join(cells)} |"


def table(rows, first="", second="arithmetic of the middle column"):
    return [f"| {first} | {second} | {' | '.join(COLUMNS)} |", "|---|---|--:|--:|--:|", *rows]


def inputs():
    lines = []
    for row in INPUTS:
        if len(row) == 1:
            lines += ["", f"**{row[0]}**", "", "| | good | middle | bad | | |", "|---|--:|--:|--:|---|---|"]
        else:
            _, what, *values, source, remark = row
            shown = " | ".join(f"{value:,}" for value in values)
            lines.append(f"| {what} | {shown} | {source} | {remark} |")
    return lines[1:]


def load_rows(sheet):
    return [
        sheet.row("messages", "messages a second", "{messages_day} / 86,400 s × {peak}",
                  lambda v: v.messages_day / DAY_S * v.peak),
        sheet.row("sessions", "sessions", "{users} × {online}", lambda v: v.users * v.online),
        sheet.row("deliveries", "deliveries a second", "{messages} × {deliveries_each}",
                  lambda v: v.messages * v.deliveries_each),
        sheet.row("heartbeats", "heartbeats a second", "{sessions} / {heartbeat_s} s",
                  lambda v: v.sessions / v.heartbeat_s),
        sheet.row("connects", "connects a second", "{users} × {connects_day} / 86,400 s × {peak}",
                  lambda v: v.users * v.connects_day / DAY_S * v.peak),
    ]  # fmt: skip


def machines(needed, least=3, multiple=1):
    return max(least, math.ceil(needed / multiple) * multiple)


def tidings_rows(sheet):
    return [
        sheet.row("node_cpu", "vCPU at work",
                  "({messages} × {message_us} + {deliveries} × {delivery_us} + {heartbeats} × {heartbeat_us} + {connects} × {connect_us}) µs",
                  lambda v: (v.messages * v.message_us + v.deliveries * v.delivery_us
                             + v.heartbeats * v.heartbeat_us + v.connects * v.connect_us) / 1e6),
        sheet.row("nodes_by_cpu", "machines for that", "{node_cpu} / ({node_vcpu} × {busy})",
                  lambda v: math.ceil(v.node_cpu / (v.node_vcpu * v.busy))),
        sheet.row("nodes_by_sessions", "machines for the sessions", "{sessions} / {node_sessions}",
                  lambda v: math.ceil(v.sessions / v.node_sessions)),
        sheet.row("nodes", "**machines**", "the larger × {zones}",
                  lambda v: machines(max(v.nodes_by_cpu, v.nodes_by_sessions) * v.zones)),
        sheet.row("node_gb", "GB of memory for the sessions of one", "{sessions} / {nodes} × {zones} × {session_kb} KB",
                  lambda v: v.sessions / v.nodes * v.zones * v.session_kb / 1e6),
        sheet.row("node_lost", "connects a second if one is lost", "{sessions} / {nodes} / 60 s: all come back within a minute",
                  lambda v: v.sessions / v.nodes / 60),
    ]  # fmt: skip


def cassandra_rows(sheet):
    return [
        sheet.row("store_cpu", "vCPU at work",
                  "({messages} × {store_message_us} + {heartbeats} × {store_heartbeat_us} + {connects} × {store_connect_us}) µs",
                  lambda v: (v.messages * v.store_message_us + v.heartbeats * v.store_heartbeat_us
                             + v.connects * v.store_connect_us) / 1e6),
        sheet.row("stores_by_cpu", "**machines for that**", "{store_cpu} / ({cassandra_vcpu} × {busy}), in threes",
                  lambda v: machines(v.store_cpu / (v.cassandra_vcpu * v.busy), multiple=3)),
        sheet.row("store_writes", "writes a second on each, for messages", "{messages} × {statements} × {copies} / {stores_by_cpu}",
                  lambda v: v.messages * v.statements * v.copies / v.stores_by_cpu),
    ]  # fmt: skip


KEEPING = [
    # name, what, formula of the bytes kept, days × bytes
    ("delivered", "until delivered", "({message_bytes} × {waiting_days} + {envelope_bytes} × 30)",
     lambda v: v.message_bytes * v.waiting_days + v.envelope_bytes * 30),
    ("month", "30 days", "({message_bytes} × 30 + {envelope_bytes} × 30)",
     lambda v: v.message_bytes * 30 + v.envelope_bytes * 30),
    ("year", "for ever, after a year", "({message_bytes} × 365)", lambda v: v.message_bytes * 365),
]  # fmt: skip


def keeping_rows(sheet):
    rows = []
    for name, what, formula, work_out in KEEPING:
        rows += [
            sheet.row(f"tb_{name}", f"{what}: TB of disk",
                      f"{{messages_day}} × {formula} bytes × {{copies}} / {{disk_fill}}",
                      lambda v, work_out=work_out: v.messages_day * work_out(v) * v.copies / v.disk_fill / 1e12),
            sheet.row(f"stores_{name}", f"**{what}: machines**", f"{{tb_{name}}} / {{disk_tb}}, or those for the CPU, in threes",
                      lambda v, name=name: max(v.stores_by_cpu, machines(v[f"tb_{name}"] / v.disk_tb, multiple=3))),
        ]  # fmt: skip
    return rows


def around_rows(sheet):
    return [
        sheet.row("nats_load", "NATS: messages a second", "{messages} × {nats_each} + {nodes}² beats",
                  lambda v: v.messages * v.nats_each + v.nodes**2),
        sheet.row("nats", "**NATS: machines**", "{nats_load} / {nats_rate} × {zones}, at least 3",
                  lambda v: machines(v.nats_load / v.nats_rate * v.zones)),
        sheet.row("proxy_cpu", "HAProxy: vCPU at work",
                  "(({messages} + {deliveries} + 2 × {heartbeats}) × {relay_us} + {connects} × {handshake_us}) µs",
                  lambda v: ((v.messages + v.deliveries + 2 * v.heartbeats) * v.relay_us + v.connects * v.handshake_us) / 1e6),
        sheet.row("proxies", "**HAProxy: machines**",
                  "{sessions} × {proxy_kb} KB / ({proxy_vcpu} × 4 GB × {proxy_fill}), or by CPU; × {zones}",
                  lambda v: machines(max(v.sessions * v.proxy_kb / (v.proxy_vcpu * 4e6 * v.proxy_fill),
                                         v.proxy_cpu / (v.proxy_vcpu * v.busy)) * v.zones)),
        sheet.row("media_tb", "media after a year, TB", "{media_day} × {stored_once} × 365",
                  lambda v: v.media_day * v.stored_once * 365),
        sheet.row("egress_tb", "to the world, TB a month",
                  "({media_day} TB × {downloads} + {messages_day} × {deliveries_each} × {delivery_bytes} bytes "
                  "+ {sessions} / {peak} × 86,400 s / {heartbeat_s} s × {heartbeat_bytes} bytes) × 30.4",
                  lambda v: (v.media_day * v.downloads + v.messages_day * v.deliveries_each * v.delivery_bytes / 1e12
                             + v.sessions / v.peak * DAY_S / v.heartbeat_s * v.heartbeat_bytes / 1e12) * MONTH_DAYS),
    ]  # fmt: skip


def cost_rows(sheet):
    rows = [
        sheet.row("usd_nodes", "Tidings", "{nodes} × {node_vcpu} × {usd_vcpu}", lambda v: v.nodes * v.node_vcpu * v.usd_vcpu),
        sheet.row("usd_around", "HAProxy and NATS", "({proxies} × {proxy_vcpu} + {nats} × {nats_vcpu}) × {usd_vcpu}",
                  lambda v: (v.proxies * v.proxy_vcpu + v.nats * v.nats_vcpu) * v.usd_vcpu),
        sheet.row("usd_media", "media, stored", "{media_tb} × {usd_object}", lambda v: v.media_tb * v.usd_object),
        sheet.row("usd_lines", "to the world", "{egress_tb} × {usd_egress}", lambda v: v.egress_tb * v.usd_egress),
    ]  # fmt: skip
    totals = []
    for name, what, *_ in KEEPING:
        rows.append(
            sheet.row(f"usd_{name}", f"Cassandra, {what}",
                      f"{{stores_{name}}} × {{cassandra_vcpu}} × {{usd_vcpu}} + {{tb_{name}}} × {{usd_disk}}",
                      lambda v, name=name: v[f"stores_{name}"] * v.cassandra_vcpu * v.usd_vcpu + v[f"tb_{name}"] * v.usd_disk)
        )  # fmt: skip
        totals.append(
            sheet.row(f"usd_all_{name}", f"**all, {what}**", "the sum",
                      lambda v, name=name: v.usd_nodes + v.usd_around + v.usd_media + v.usd_lines + v[f"usd_{name}"])
        )  # fmt: skip
    return rows + totals


def cluster(key):
    _, _, users, messages_day, media_day = next(load for load in LOADS if load[0] == key)
    sheet = Sheet(users=users, messages_day=messages_day, media_day=media_day)
    lines = []
    for title, make in [
        ("At the peak", load_rows),
        ("Tidings", tidings_rows),
        ("Cassandra, by its CPU", cassandra_rows),
        ("Cassandra, by what is kept", keeping_rows),
        ("What is around them", around_rows),
        ("Dollars a month", cost_rows),
    ]:
        lines += ["", f"**{title}**", "", *table(make(sheet))]
    return lines[1:]


def in_short():
    lines = ["| | " + " | ".join(load[1] for load in LOADS) + " |", "|---|" + "---|" * len(LOADS)]
    sheets = []
    for key, _, users, messages_day, media_day in LOADS:
        sheet = Sheet(users=users, messages_day=messages_day, media_day=media_day)
        for make in (load_rows, tidings_rows, cassandra_rows, keeping_rows, around_rows, cost_rows):
            make(sheet)
        sheets.append(sheet)

    def line(what, name):
        cells = []
        for sheet in sheets:
            good, middle, bad = (number(column[name]) for column in sheet.columns)
            cells.append(f"**{middle}** ({good} to {bad})")
        lines.append(f"| {what} | {' | '.join(cells)} |")

    line("messages a second, at the peak", "messages")
    line("sessions, at the peak", "sessions")
    line("machines for Tidings", "nodes")
    line("machines for Cassandra, until delivered", "stores_delivered")
    line("machines for Cassandra, a year kept", "stores_year")
    line("TB of disk, until delivered", "tb_delivered")
    line("TB of disk, a year kept", "tb_year")
    line("machines for NATS", "nats")
    line("machines for HAProxy", "proxies")
    line("media after a year, TB", "media_tb")
    line("dollars a month, until delivered", "usd_all_delivered")
    line("dollars a month, a year kept", "usd_all_year")
    return lines


def single():
    each = LOADS[0][3] / LOADS[0][2]
    lines = [
        "| daily users | messages a second, at the peak | sessions | vCPU at work | GB of memory for sessions | GB of disk a year |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for users in SINGLE_USERS:
        sheet = Sheet(users=users, messages_day=users * each, media_day=0)
        load_rows(sheet)
        for column, message_us, message_bytes in zip(sheet.columns, SINGLE_US, SINGLE_MESSAGE_BYTES):
            column["vcpu"] = (
                column.messages * message_us
                + column.messages * column.deliveries_each * column.delivery_us
                + column.heartbeats * column.heartbeat_us
                + column.connects * column.connect_us
            ) / 1e6
            column["memory_gb"] = column.sessions * column.session_kb / 1e6
            column["disk_gb"] = column.messages_day * 365 * message_bytes / 1e9
        cells = [exact(users)]
        for name in ("messages", "sessions", "vcpu", "memory_gb", "disk_gb"):
            good, middle, bad = (number(column[name]) for column in sheet.columns)
            cells.append(f"**{middle}** ({good} to {bad})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


PARTS = {
    "short": in_short,
    "single": single,
    "million": lambda: cluster("million"),
    "billion": lambda: cluster("billion"),
    "inputs": inputs,
}


def filled(text):
    """The page with its tables as they are now, each between `<!-- sizing NAME -->` and `<!-- sizing end -->`."""
    lines, kept, inside = text.split("\n"), [], False
    missing = set(PARTS)
    for line in lines:
        if line == "<!-- sizing end -->":
            inside = False
        if not inside:
            kept.append(line)
        if line.startswith("<!-- sizing ") and not line.endswith(" end -->"):
            name = line[len("<!-- sizing ") : -len(" -->")]
            if inside or name not in PARTS:
                sys.exit(f"sizing.md: '{line}' is not expected")
            missing.discard(name)
            kept += ["", *PARTS[name](), ""]
            inside = True
    if inside or missing:
        sys.exit(f"sizing.md: an end is missing, or the tables {sorted(missing)}")
    return "\n".join(kept)


def main():
    if sys.argv[1:] == []:
        for make in PARTS.values():
            print("\n".join(make()) + "\n")
        return
    with open(PAGE, encoding="utf-8") as page:
        before = page.read()
    after = filled(before)
    if sys.argv[1:] == ["--write"]:
        with open(PAGE, "w", encoding="utf-8") as page:
            page.write(after)
    elif sys.argv[1:] == ["--check"]:
        if before != after:
            difference = difflib.unified_diff(before.split("\n"), after.split("\n"), "sizing.md", "sizing.py", "", "", 0, "")
            sys.exit("\n".join([*difference, "deploy/sizing/sizing.py --write brings it up to date"]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
