"""moto's server with what kops asks of AWS and moto 5.2.5 answers otherwise: warm pools of groups that are not there, the version of the launch
template that an instance was born with, user data of a second version, and what hosts of a subnet are named by. It says which instances run, each time that others do. By hand: python moto-shim.py PORT [ADDRESS], where an address is that of every load balancer."""
import json
import sys
import threading
import time

from moto.autoscaling import models
from moto.autoscaling.exceptions import ValidationError
from moto.core.types import Base64EncodedString
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.ec2.responses.subnets import Subnets
from moto.elbv2.models import FakeLoadBalancer
from moto.server import main

describe_warm_pool = models.AutoScalingBackend.describe_warm_pool
born = models.InstanceState.__init__
balance = FakeLoadBalancer.__init__
modify_subnet = Subnets.modify_subnet_attribute


def warm_pool(self, group_name):
    if group_name not in self.autoscaling_groups:
        raise ValidationError("AutoScalingGroup name not found - no such group: " + group_name)
    return describe_warm_pool(self, group_name)


def remember(self, *args, **named):
    born(self, *args, **named)
    template = self.auto_scaling_group.ec2_launch_template
    self.born_with = template and str(template.latest_version_number)


def launch_template(self):
    template = self.auto_scaling_group.ec2_launch_template
    return template and {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "Version": self.born_with,
    }


def user_data(self):
    given = self.data.get("UserData")
    return Base64EncodedString(given) if isinstance(given, str) else given


def balance_there(self, *args, **named):
    balance(self, *args, **named)
    self.dns_name = sys.argv[2]


def name_hosts(self):
    kind = self._get_param("PrivateDnsHostnameTypeOnLaunch")
    if kind:
        subnet = self.ec2_backend.get_subnet(self._get_param("SubnetId"))
        subnet.private_dns_name_options_on_launch["HostnameType"] = kind
    return modify_subnet(self)


def groups():
    return [
        group
        for regions in list(models.autoscaling_backends.values())
        for backend in list(regions.values())
        for group in list(backend.autoscaling_groups.values())
    ]


def tell():
    told = None
    while True:
        running = json.dumps(
            [
                {"id": one.instance.id, "group": group.name, "address": one.instance.private_ip}
                for group in groups()
                for one in list(group.instance_states)
                if one.instance.state == "running"
            ]
        )
        if running != told:
            print(running, flush=True)
        told = running
        time.sleep(0.2)


models.AutoScalingBackend.describe_warm_pool = warm_pool
models.InstanceState.__init__ = remember
models.InstanceState.launch_template = property(launch_template)
LaunchTemplateVersion.user_data = property(user_data)
Subnets.modify_subnet_attribute = name_hosts
if len(sys.argv) > 2:
    FakeLoadBalancer.__init__ = balance_there
threading.Thread(target=tell, daemon=True).start()
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
