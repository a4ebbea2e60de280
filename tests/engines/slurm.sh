#!/usr/bin/env bash
# A private Slurm with accounting on this machine, for the tests: one controller and several slurmd, all on loopback.
#
#   slurm.sh up DIR [NODES]      start it; its configuration is DIR/etc/slurm.conf (export SLURM_CONF)
#   slurm.sh node DIR NAME       start the slurmd of one node again
#   slurm.sh down DIR            empty the queue, then stop everything that `up` started
#
# Needs root and Debian's munge, slurmctld, slurmd, slurm-client, slurm-wlm-basic-plugins, slurmdbd, mariadb-server.
set -eu
verb=$1
D=$2
PORT=${SLURM_TEST_PORT:-16800}
export SLURM_CONF=$D/etc/slurm.conf

wait_for() {  # wait_for SECONDS COMMAND...: true as soon as the command is
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "slurm.sh: timed out: $*" >&2; return 1; }
    sleep 0.2
  done
}

start_munge() {  # slurmdbd's clients look at the default socket only, so a munged that runs already is used
  install -d -o munge -g munge -m 755 /run/munge
  install -d -o munge -g munge -m 700 /var/log/munge /var/lib/munge
  if ! munge -n </dev/null >/dev/null 2>&1; then
    runuser -u munge -- munged
    touch "$D/run/started-munged"
  fi
}

start_accounting() {
  local sql="mariadb --no-defaults -uroot -S $D/mysql/s"
  install -d -o mysql -g mysql "$D/mysql"
  mariadb-install-db --no-defaults --user=mysql --datadir="$D/mysql" \
    --auth-root-authentication-method=normal >"$D/log/install-db.log" 2>&1
  setsid mariadbd --no-defaults --user=mysql --datadir="$D/mysql" --socket="$D/mysql/s" --pid-file="$D/mysql/pid" \
    --port=$((PORT + 6)) --bind-address=127.0.0.1 --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    >"$D/log/mariadb.log" 2>&1 </dev/null &
  wait_for 60 $sql -e "select 1"
  $sql -e "create database slurm_acct_db; create user slurm@127.0.0.1 identified by 'x';
           create user slurm@localhost identified by 'x';
           grant all on slurm_acct_db.* to slurm@127.0.0.1; grant all on slurm_acct_db.* to slurm@localhost"
  install -m 600 /dev/null "$D/etc/slurmdbd.conf"
  cat >"$D/etc/slurmdbd.conf" <<EOF
DbdHost=localhost
DbdPort=$((PORT + 19))
SlurmUser=root
AuthType=auth/munge
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 6))
StorageUser=slurm
StoragePass=x
StorageLoc=slurm_acct_db
LogFile=$D/log/slurmdbd.log
PidFile=$D/run/slurmdbd.pid
EOF
}

configure() {  # configure NODES
  # SlurmdTimeout: a silent node is down after so long. cred_expire: a requeued task waits so long before it starts.
  # config_overrides: the nodes may claim more than the machine has. linuxproc, none: no cgroups.
  cat >"$SLURM_CONF" <<EOF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$((PORT + 17))
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
CredType=cred/munge
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd-%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$((PORT + 19))
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
SlurmdParameters=config_overrides
$(for i in $(seq "$1"); do
    echo "NodeName=n$i NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((PORT + 20 + i)) CPUs=1 RealMemory=5000"
  done)
PartitionName=local Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
}

idle() { [ "$(sinfo -hN -o %T | grep -c idle)" = "$1" ]; }
empty() { [ -z "$(timeout 5 squeue -h)" ]; }
stop() { [ ! -f "$1" ] || kill "$(cat "$1")" 2>/dev/null || true; }
gone() { [ ! -f "$1" ] || ! grep -qv "^State:.Z" <(grep "^State:" "/proc/$(cat "$1")/status"); }  # a zombie is gone

case $verb in
up)
  nodes=${3:-2}
  mkdir -p "$D"/{etc,state,spool,log,run}
  chmod 755 "$D"
  start_munge
  start_accounting
  configure "$nodes"
  slurmdbd
  wait_for 30 timeout 5 sacctmgr -i add cluster test
  slurmctld
  for i in $(seq "$nodes"); do slurmd -N "n$i"; done
  wait_for 30 idle "$nodes"
  ;;
node)
  slurmd -N "$3"
  ;;
down)  # the queue first: a step whose controller went away never ends
  if [ -f "$D/run/slurmctld.pid" ]; then
    timeout 5 scancel -u root || true
    wait_for 30 empty || true
  fi
  for file in "$D"/run/slurmd-*.pid "$D"/run/slurmctld.pid "$D"/run/slurmdbd.pid "$D"/mysql/pid; do
    stop "$file"
    wait_for 20 gone "$file" || kill -9 "$(cat "$file")"
  done
  if [ -f "$D/run/started-munged" ]; then
    kill "$(cat /run/munge/munged.pid)"
    rm "$D/run/started-munged"
  fi
  ;;
esac
