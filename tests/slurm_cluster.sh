#!/usr/bin/env bash
# A real SLURM cluster of one node on this machine, with accounting and generic resources that stand for four GPUs.
#   tests/slurm_cluster.sh install   Debian's packages, as root
#   tests/slurm_cluster.sh start     daemons, as root; refused where a cluster is configured already
#   tests/slurm_cluster.sh stop
set -euo pipefail
base=${S4S_SLURM:-/tmp/s4s-slurm}
host=$(hostname -s)
etc=/etc/slurm # where the commands look; job steps get no SLURM_CONF
export SLURM_CONF=$base/slurm.conf

install() {
  type slurmctld slurmd slurmdbd munged mariadbd > /dev/null 2>&1 && return # all of them
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends slurm-wlm slurmdbd munge mariadb-server > /dev/null
}

await() {  # await WHAT COMMAND: until the command succeeds
  local what=$1
  shift
  for _ in $(seq 60); do
    timeout 10 "$@" > /dev/null 2>&1 && return
    sleep 0.5
  done
  echo "error: $what did not start; see $base/log" >&2
  exit 1
}

start() {
  if [ -e "$etc/slurm.conf" ] && [ ! -L "$etc/slurm.conf" ]; then
    echo "error: $etc/slurm.conf exists; this machine belongs to a cluster" >&2
    exit 1
  fi
  mkdir -p "$base"/{log,state,spool,db,run,munge} /run/munge /run/mysqld  # the last two are where client libraries look
  cores=${S4S_SLURM_CORES:-$(nproc)}
  memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024))
  for i in 0 1 2 3; do [ -e "$base/gpu$i" ] || mknod "$base/gpu$i" c 1 3; done # the null device stands for a GPU

  head -c 1024 /dev/urandom > "$base/munge/key"
  chmod 700 "$base/munge"
  chmod 600 "$base/munge/key"
  munged --key-file "$base/munge/key" --socket /run/munge/munge.socket.2 --pid-file "$base/run/munged.pid" \
    --log-file "$base/log/munged.log" --seed-file "$base/munge/seed" --force

  cat > "$base/slurm.conf" << END
ClusterName=s4s
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=0,defer
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool
SlurmctldLogFile=$base/log/slurmctld.log
SlurmdLogFile=$base/log/slurmd.log
SlurmctldPidFile=$base/run/slurmctld.pid
SlurmdPidFile=$base/run/slurmd.pid
SlurmctldPort=16817
SlurmdPort=16818
ReturnToService=2
MpiDefault=none
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory Gres=gpu:4 State=UNKNOWN
PartitionName=gpu Nodes=$host Default=YES MaxTime=INFINITE State=UP
PartitionName=cpu Nodes=$host MaxTime=INFINITE State=UP
END
  echo "NodeName=$host Name=gpu File=$base/gpu[0-3]" > "$base/gres.conf"
  echo "CgroupAutomount=no" > "$base/cgroup.conf"
  cat > "$base/slurmdbd.conf" << END
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=s4s_slurm
StoragePort=0
LogFile=$base/log/slurmdbd.log
PidFile=$base/run/slurmdbd.pid
END
  chmod 600 "$base/slurmdbd.conf"
  mkdir -p "$etc"
  for file in slurm gres cgroup; do ln -sfn "$base/$file.conf" "$etc/$file.conf"; done

  [ -d "$base/db/mysql" ] || mariadb-install-db --user=root --datadir="$base/db" --skip-test-db > "$base/log/mariadb-install.log" 2>&1
  setsid mariadbd --no-defaults --user=root --datadir="$base/db" --skip-networking --socket=/run/mysqld/mysqld.sock \
    --pid-file="$base/run/mariadbd.pid" --innodb-buffer-pool-size=256M < /dev/null > "$base/log/mariadbd.log" 2>&1 &
  await mariadbd mariadb -S /run/mysqld/mysqld.sock -e "select 1"
  slurmdbd # finds its configuration beside slurm.conf
  await slurmdbd sacctmgr -n list cluster
  sacctmgr -i add cluster s4s > /dev/null 2>&1 || true
  slurmctld -f "$base/slurm.conf" -c
  await slurmctld scontrol ping
  slurmd -f "$base/slurm.conf"
  await slurmd sh -c 'scontrol -o show node | grep -q State=IDLE'
  sinfo -o '%P %a %l %D %t %G'
}



stop() {
  for daemon in slurmd slurmctld slurmdbd mariadbd munged; do
    [ ! -f "$base/run/$daemon.pid" ] || kill "$(cat "$base/run/$daemon.pid")" 2> /dev/null || true
    for _ in $(seq 40); do
      [ -f "$base/run/$daemon.pid" ] && kill -0 "$(cat "$base/run/$daemon.pid" 2> /dev/null)" 2> /dev/null || break
      sleep 0.25
    done
  done
  for file in slurm gres cgroup; do [ ! -L "$etc/$file.conf" ] || rm "$etc/$file.conf"; done
  rm -rf "$base"
}

case ${1:-} in
  install | start | stop) "$1" ;;
  *) sed -n '2,5s/^# *//p' "$0"; exit 2 ;;
esac
