# Who may open a connection to web.
Kind = "service-intentions"
Name = "web"
Sources = [
  {
    Name        = "gateway"
    Action      = "allow"
    Description = "The gateway passes visitors' requests on to the blog."
  },
]
