#!/usr/bin/env bash
# What a machine that only sells may be told beyond the defaults of its distribution, one by
# one: what is there, what would be changed, why, and what it risks. docs/CONFIG.md, section
# "Tuning the machine", says when. No figure in docs/BENCHMARKS.md depends on it.
#
#   host-tuning.sh [--check]     says what it finds and what it would change; changes nothing
#   host-tuning.sh --apply       changes it, and keeps what was there in the state file
#   host-tuning.sh --undo        puts back what was there, but for what somebody changed since
#
#   --net DEV    only this network device (default: all that have hardware); may be repeated
#   --disk NAME  only this disk, as in /sys/block (default: all that have hardware); may be repeated
#   --state FILE where --apply keeps what was there (default: /var/lib/stampede/host-tuning.state)
#
# Nothing survives a reboot: run it at boot before the engine, if it is to stay.
# ROOT=DIR puts another directory in front of every path, for tests.
set -euo pipefail

root=${ROOT:-}
mode=check
state=/var/lib/stampede/host-tuning.state
nets=()
disks=()
wrong=0
would=0

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p;}' "$0"; }

while [ $# -gt 0 ]; do
    case $1 in
        --check | --apply | --undo) mode=${1#--} ;;
        --net | --disk | --state)
            [ $# -ge 2 ] || { echo "host-tuning: $1 needs a value" >&2; exit 2; }
            case $1 in
                --net) nets+=("$2") ;;
                --disk) disks+=("$2") ;;
                --state) state=$2 ;;
            esac
            shift
            ;;
        --help | -h) usage; exit 0 ;;
        *) echo "host-tuning: unknown argument $1; see --help" >&2; exit 2 ;;
    esac
    shift
done

# ---- reading and writing one setting ----

# The value of a file; of "a [b] c" it is b.
value_of() { # value_of FILE
    local text
    text=$(cat "$1" 2>/dev/null) || return 1
    case $text in
        *\[*\]*) text=${text#*\[}; text=${text%%\]*} ;;
    esac
    printf '%s' "$text"
}

# Writes a setting and looks whether it was taken.
write_value() { # write_value PATH VALUE
    { printf '%s\n' "$2" >"$root$1"; } 2>/dev/null && [ "$(value_of "$root$1")" = "$2" ]
}

# Whether the state file has a line for the path.
is_kept() { [ -f "$root$state" ] && cut -f1 "$root$state" | grep -qxF -- "$1"; }

# Kept before the change, so that a change is never without its way back.
keep() { # keep PATH OLD NEW
    is_kept "$1" && return
    mkdir -p "$(dirname "$root$state")"
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$root$state"
}

forget() { # forget PATH
    awk -F '\t' -v path="$1" '$1 != path' "$root$state" >"$root$state.new"
    mv "$root$state.new" "$root$state"
}

explain() { printf '         why:  %s\n         risk: %s\n' "$1" "$2"; }

# One setting: shown, and with --apply changed. HOW is `is`, or `least` where more is fine, too.
knob() { # knob PATH HOW WANTED WHY RISK
    local path=$1 how=$2 wanted=$3 now known=
    if ! now=$(value_of "$root$path"); then
        printf 'absent   %s\n' "$path"
        return
    fi
    if [ "$now" = "$wanted" ] || { [ "$how" = least ] && [ "$now" -ge "$wanted" ] 2>/dev/null; }; then
        printf 'good     %s = %s\n' "$path" "$now"
        return
    fi
    if [ "$mode" = check ]; then
        would=$((would + 1))
        printf 'change   %s: %s -> %s\n' "$path" "$now" "$wanted"
        explain "$4" "$5"
        return
    fi
    is_kept "$path" && known=yes
    keep "$path" "$now" "$wanted"
    if write_value "$path" "$wanted"; then
        printf 'changed  %s: %s -> %s\n' "$path" "$now" "$wanted"
    elif [ "$(value_of "$root$path")" = "$now" ]; then
        [ -n "$known" ] || forget "$path"
        wrong=$((wrong + 1))
        printf 'refused  %s: stays %s\n' "$path" "$now"
    else
        wrong=$((wrong + 1))
        printf 'partly   %s: %s -> %s, which is not %s\n' "$path" "$now" "$(value_of "$root$path")" "$wanted"
    fi
}

# Something to know that this script does not change.
note() { # note WHAT WHY RISK
    printf 'note     %s\n' "$1"
    if [ "$mode" = check ]; then explain "$2" "$3"; fi
}

# ---- what there is ----

# Devices of a class that have hardware behind them, unless some were named.
hardware() { # hardware DIR NAMES...
    local dir=$1 entry
    shift
    if [ $# -gt 0 ]; then
        printf '%s\n' "$@"
        return
    fi
    for entry in "$root$dir"/*/device; do
        if [ -e "$entry" ]; then basename "$(dirname "$entry")"; fi
    done
}

cores() {
    local entry count=0
    for entry in "$root"/sys/devices/system/cpu/cpu[0-9]*; do
        if [ -e "$entry" ]; then count=$((count + 1)); fi
    done
    echo "$((count > 0 ? count : 1))"
}

# ---- the settings ----

tune_sockets() {
    local queue_why="a crowd connects within milliseconds; a listener's queue is capped by this, whatever the engine asks for"
    local queue_risk="memory for connections that nobody takes, while the engine is down or slow"
    knob /proc/sys/net/core/somaxconn least 65535 "$queue_why" "$queue_risk"
    knob /proc/sys/net/ipv4/tcp_max_syn_backlog least 65535 "$queue_why" "$queue_risk"
    local poll_why="a core that waits looks at its network queue for 50 us before it sleeps: saves the interrupt and the wake-up"
    local poll_risk="waiting cores burn processor time; hurts where the engine shares its cores with Postgres or anything else"
    knob /proc/sys/net/core/busy_poll is 50 "$poll_why" "$poll_risk"
    knob /proc/sys/net/core/busy_read is 50 "$poll_why" "$poll_risk"
}

# The interrupts of a device by number, which is the order of its queues.
interrupts() { # interrupts DEV
    local entry
    for entry in "$root/sys/class/net/$1"/device/msi_irqs/*; do
        if [ -e "$entry" ]; then basename "$entry"; fi
    done | sort -n
}

tune_irqs() { # tune_irqs DEV
    local irq at=0 cores
    cores=$(cores)
    while read -r irq; do
        knob "/proc/irq/$irq/smp_affinity_list" is "$((at % cores))" \
            "one network queue per core, so that a packet is handled where its connection is served" \
            "irqbalance moves it back: stop that service first; with fewer queues than cores some cores carry more"
        at=$((at + 1))
    done < <(interrupts "$1")
}

tune_net() { # tune_net DEV
    local entry queues=0 dir="/sys/class/net/$1"
    for entry in "$root$dir"/queues/rx-*; do
        if [ -e "$entry" ]; then queues=$((queues + 1)); fi
    done
    if [ "$queues" -gt 1 ]; then
        for entry in "$root$dir"/queues/rx-*; do
            knob "$dir/queues/$(basename "$entry")/rps_cpus" is 0 \
                "the hardware spreads packets over its queues already; spreading them again costs an interrupt between cores" \
                "none where there are as many queues as cores; with fewer, the cores without one get less"
        done
        tune_irqs "$1"
    else
        note "$1 has $queues receive queue(s): its packets are not bound to a core" \
            "with a single queue software has to spread packets (RPS), so it is left as it is" \
            "one core takes all interrupts of this device and reaches its limit first"
    fi
    local defer_why="interrupts stay off while somebody polls the queue; without it busy polling is interrupted all the same"
    local defer_risk="up to 0.2 ms of delay for a packet when nobody polls"
    knob "$dir/napi_defer_hard_irqs" is 2 "$defer_why" "$defer_risk"
    knob "$dir/gro_flush_timeout" is 200000 "$defer_why" "$defer_risk"
    if [ -e "$root$dir/device/numa_node" ]; then
        note "$1 is on memory node $(value_of "$root$dir/device/numa_node")" \
            "cores of the same node reach its buffers without crossing over: prefer them in the setting cores" \
            "none"
    fi
}

tune_cpu() {
    local entry
    for entry in "$root"/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor; do
        [ -e "$entry" ] || continue
        knob "${entry#"$root"}" is performance \
            "a core that slept starts the rush at its full clock, not some milliseconds later" \
            "more power and heat all day"
    done
    knob /proc/sys/kernel/numa_balancing is 0 \
        "cores are pinned and their memory is where they first touched it; scanning for misplaced pages only costs faults" \
        "other programs on the machine lose it, too"
    local nodes=0
    for entry in "$root"/sys/devices/system/node/node[0-9]*; do
        if [ -e "$entry" ]; then nodes=$((nodes + 1)); fi
    done
    note "$nodes memory node(s)" \
        "with more than one, a hop between cores of two nodes costs two to three times as much" \
        "spreading one engine over nodes is slower than keeping it to the cores of one"
}

tune_memory() {
    local why="huge pages for those who ask; with always, a fault may stop to compact memory in the middle of the rush"
    local risk="large tables have more TLB misses than with always: measure, where they are hot"
    knob /sys/kernel/mm/transparent_hugepage/enabled is madvise "$why" "$risk"
    knob /sys/kernel/mm/transparent_hugepage/defrag is defer+madvise "$why" "$risk"
}

tune_disk() { # tune_disk NAME
    local dir="/sys/block/$1/queue"
    knob "$dir/scheduler" is none \
        "the log writes one block at a time and waits for it: there is nothing to sort" \
        "on a disk that others share, and on spinning ones, readers may starve"
    knob "$dir/rq_affinity" is 2 \
        "a write completes on the core that asked for it, which is the journal's" \
        "none to speak of"
    if [ -e "$root$dir/write_cache" ]; then
        note "$1 has its cache in mode '$(value_of "$root$dir/write_cache")'" \
            "write back: every synced write makes the disk flush; fast only on a disk with power-loss protection" \
            "this file is never changed here: to write 'write through' only makes the kernel stop asking for the flush, and a power cut then loses acknowledged orders"
    fi
}

tell_limits() {
    local files memory
    files=$(ulimit -Hn)
    memory=$(ulimit -Hl)
    note "hard limits of this shell: $files open files, $memory KiB of locked memory" \
        "the engine raises its own soft limits up to these; a unit file wants LimitNOFILE=1048576 and LimitMEMLOCK=infinity" \
        "a connection flood may then hold that many descriptors: limits.connections is the bound"
}

tell_mitigations() {
    local entry text found=
    for entry in "$root"/sys/devices/system/cpu/vulnerabilities/*; do
        text=$(value_of "$entry") || continue
        case $text in
            Mitigation*) found="$found $(basename "$entry")" ;;
        esac
    done
    note "mitigations that are on:${found:- none}" \
        "each system call and each switch pays for them; they change only at boot (mitigations=off)" \
        "whoever runs code on this machine may then read the memory of others, token keys included: only where nobody else does"
}

undo() {
    local path old new now left
    if [ ! -s "$root$state" ]; then
        echo "host-tuning: nothing to undo: $state is not there"
        return
    fi
    left=$(mktemp)
    while IFS=$'\t' read -r path old new; do
        if ! now=$(value_of "$root$path"); then
            printf 'absent   %s\n' "$path"
        elif [ "$now" = "$old" ]; then
            printf 'good     %s = %s\n' "$path" "$now"
        elif [ "$now" != "$new" ]; then
            printf 'left     %s = %s: somebody changed it since\n' "$path" "$now"
        elif write_value "$path" "$old"; then
            printf 'restored %s: %s -> %s\n' "$path" "$now" "$old"
        else
            wrong=$((wrong + 1))
            printf 'refused  %s: stays %s\n' "$path" "$now"
            printf '%s\t%s\t%s\n' "$path" "$old" "$new" >>"$left"
        fi
    done < <(tac "$root$state")
    if [ -s "$left" ]; then tac "$left" >"$root$state"; else rm -f "$root$state"; fi
    rm -f "$left"
}

tune() {
    local device
    tune_sockets
    while read -r device; do tune_net "$device"; done < <(hardware /sys/class/net "${nets[@]}")
    tune_cpu
    tune_memory
    while read -r device; do tune_disk "$device"; done < <(hardware /sys/block "${disks[@]}")
    tell_limits
    tell_mitigations
}

if [ "$mode" = undo ]; then undo; else tune; fi
if [ "$mode" = check ]; then
    echo "host-tuning: $would would change; nothing was changed"
elif [ "$wrong" -gt 0 ]; then
    echo "host-tuning: $wrong refused (root is needed, and some devices refuse all the same)" >&2
    exit 1
fi
